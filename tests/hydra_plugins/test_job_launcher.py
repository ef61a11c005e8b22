"""Hydra's own launchers under the default sweeper: batches, failures, one report at the end."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from src.config import register
from src.errors import HarnessError
from src.records import StudyPaths
from tests.experiment.workplace import build, record_of

ROOT = Path(__file__).resolve().parents[2]
register()
# Under the name by which Hydra knows it.
job_launcher = importlib.import_module("hydra_plugins.job_launcher")


class Recorder:
    """A launcher that notes what it is given; the job of ``x=bad`` fails."""

    def __init__(self) -> None:
        self.launched: list[tuple[list[str], int]] = []

    def launch(self, overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        self.launched.append(([job[0] for job in overrides], first))
        jobs = [JobReturn(list(job), status=JobStatus.COMPLETED) for job in overrides]
        for job in jobs:
            if job.overrides == ["x=bad"]:
                job.status, job.return_value = JobStatus.FAILED, HarnessError("it is bad")
        return jobs


def launcher(name: str, most: int | None, cpus: int | None = None) -> Any:
    made = job_launcher.JobLauncher(Recorder(), most)
    hydra = {"runtime": {"choices": {"hydra/launcher": name}}, "launcher": {"cpus_per_task": cpus}}
    context: Any = SimpleNamespace(config_loader=None)
    made.setup(hydra_context=context, task_function=lambda _: None, config=OmegaConf.create({"hydra": hydra}))
    return made


@pytest.mark.parametrize(
    ("name", "most", "cpus", "sizes", "threads"),
    [
        ("basic", None, None, [5], None),
        ("basic", 2, None, [2, 2, 1], None),
        ("submitit_slurm", None, None, [5], None),
        ("submitit_local", None, None, [4, 1], "1"),
        ("submitit_local", None, 2, [2, 2, 1], "2"),
        ("submitit_local", None, 9, [1, 1, 1, 1, 1], "9"),
        ("submitit_local", 3, 9, [3, 2], "9"),
        ("submitit_local", 2, None, [2, 2, 1], "2"),
    ],
)
def test_jobs_start_in_batches(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch, name: str, most: int | None, cpus: int | None, sizes: list[int], threads: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(os, "environ", {})
    batches = list(launcher(name, most, cpus)._batches(range(10, 15)))
    assert [len(batch) for _, batch in batches] == sizes
    assert [place for _, batch in batches for place in batch] == list(range(10, 15))
    assert [first for first, _ in batches] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_only_what_is_pending_is_launched_and_failures_come_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    made, told = launcher("basic", 2), {}

    def run_as_jobs(cells: Any, start: Any) -> list[float | None]:
        told.update(start([1, 2, 4]))
        return [None] * 5

    monkeypatch.setattr(job_launcher, "compose_cells", lambda *_: [])
    monkeypatch.setattr(job_launcher, "run_as_jobs", run_as_jobs)
    monkeypatch.setattr(job_launcher, "returns", lambda _, scores: scores)
    assert made.launch([["x=0"], ["x=1"], ["x=2"], ["x=3"], ["x=bad"]], 0) == [None] * 5
    assert made.launcher.launched == [(["x=1", "x=2"], 0), (["x=bad"], 2)]
    assert told == {4: "it is bad"}


def test_a_sweep_of_jobs_ends_with_one_table(tmp_path: Path) -> None:
    """With a job that fails among them, whose error must not keep the launcher from the others."""
    place, output = build(tmp_path), tmp_path / "out"
    command = [
        sys.executable, "-m", "src.train", "-m", "hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2",
        f"model.path={place.model}", "task=own", f"task.path={place.data}", "task.max_length=16",
        "task.validation_size=12", "task.test_size=12", "trainer.max_steps=2", "trainer.batch_size=8",
        "trainer.dtype=float32", "tracking=none", "study=tiny", f"output_dir={output}", f"cache_dir={place.cache}",
        "device=cpu", "optim.clip=null", "optim.lr=1e30,1e-3,2e-3",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Starting 3 jobs" in result.stderr
    assert "1 of 3 cells of the study tiny did not complete" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout.count("Best by validation accuracy") == 1
    paths = StudyPaths.of(output, "tiny")
    runs = [paths.run(run.name) for run in paths.runs.iterdir()]
    assert sorted(record_of(run)["status"] for run in runs) == ["completed", "completed", "diverged"]
