"""Hydra's own launchers under the default sweeper: batches, failures, one report at the end."""

from __future__ import annotations

import importlib
import os
import re
import signal
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
from src.records import Claims, StudyPaths
from tests.cluster.slurm import wait_until
from tests.experiment.workplace import build
from tests.neighbours.sweep import STUDY, arguments, records

ROOT = Path(__file__).resolve().parents[2]
register()
# Under the name by which Hydra knows it.
job_launcher = importlib.import_module("hydra_plugins.job_launcher")


class Recorder:
    """A launcher that notes what it is given, and the threads of its jobs; x=0 fails, and x=6 cannot be submitted."""

    def __init__(self) -> None:
        self.launched: list[tuple[list[str], int, str | None]] = []

    def launch(self, overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        if ["x=6"] in overrides:
            raise HarnessError("sbatch is away")
        self.launched.append(([job[0] for job in overrides], first, os.environ.get("OMP_NUM_THREADS")))
        jobs = [JobReturn(list(job), status=JobStatus.COMPLETED) for job in overrides]
        for job in jobs:
            if job.overrides == ["x=0"]:
                job.status, job.return_value = JobStatus.FAILED, HarnessError("it is bad")
        return jobs


def launcher(name: str, most: int | None, cpus: int | None = None) -> Any:
    made = job_launcher.JobLauncher(Recorder(), most)
    hydra = {"runtime": {"choices": {"hydra/launcher": name}}, "launcher": {"cpus_per_task": cpus}}
    context: Any = SimpleNamespace(config_loader=None)
    made.setup(hydra_context=context, task_function=lambda _: None, config=OmegaConf.create({"hydra": hydra}))
    return made


def start_all(monkeypatch: pytest.MonkeyPatch, made: Any, places: list[int]) -> dict[int, str | None]:
    """Let it launch the jobs of some places; what it says of their ends."""
    told: dict[int, str | None] = {}

    def run_as_jobs(cells: Any, start: Any) -> list[float | None]:
        start(places, told.__setitem__)
        return []

    monkeypatch.setattr(job_launcher, "compose_cells", lambda *_: [])
    monkeypatch.setattr(job_launcher, "run_as_jobs", run_as_jobs)
    monkeypatch.setattr(job_launcher, "returns", lambda _, scores: scores)
    made.launch([[f"x={i}"] for i in range(7)], 0)
    return told


@pytest.mark.parametrize(
    ("name", "most", "cpus", "sizes", "threads"),
    [
        ("basic", None, None, [5], None),
        ("basic", 2, None, [2, 2, 1], None),
        ("submitit_slurm", None, None, [5], None),
        ("submitit_local", None, None, [4, 1], ["1", "4"]),
        ("submitit_local", None, 2, [2, 2, 1], ["2", "2", "2"]),
        ("submitit_local", None, 9, [1, 1, 1, 1, 1], ["4"] * 5),
        ("submitit_local", 3, 9, [3, 2], ["4", "4"]),
        ("submitit_local", 2, None, [2, 2, 1], ["2", "2", "4"]),
    ],
)
def test_jobs_start_in_batches_and_share_the_cores(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    most: int | None,
    cpus: int | None,
    sizes: list[int],
    threads: list[str] | None,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = launcher(name, most, cpus)
    start_all(monkeypatch, made, [1, 2, 3, 4, 5])
    assert [len(batch) for batch, _, _ in made.launcher.launched] == sizes
    assert [job for batch, _, _ in made.launcher.launched for job in batch] == [f"x={i}" for i in range(1, 6)]
    assert [first for _, first, _ in made.launcher.launched] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert [seen for _, _, seen in made.launcher.launched] == (threads or [None] * len(sizes))
    assert "OMP_NUM_THREADS" not in os.environ


def test_ends_come_by_place_and_what_cannot_be_submitted_ends_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_all(monkeypatch, launcher("basic", 2), [1, 2, 0]) == {1: None, 2: None, 0: "it is bad"}
    made = launcher("basic", 2)
    with pytest.raises(HarnessError, match="sbatch is away"):
        start_all(monkeypatch, made, [1, 2, 6, 3, 4])
    assert len(made.launcher.launched) == 1


KILLED = "if 'submitit.core._submit' in sys.orig_argv: from tests.neighbours.faults import plant; plant({'0': 'kill'})"


@pytest.mark.slow
def test_a_job_that_is_killed_leaves_the_others_and_one_table(tmp_path: Path) -> None:
    place, output = build(tmp_path), tmp_path / "out"
    # Python runs it at its start; seed 0 is killed at its third step.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{KILLED}\n")
    more = ("hydra/launcher=submitit_local", "optim.clip=null", "optim.lr=1e-3")
    result = subprocess.run(
        [sys.executable, "-m", "src.train", *arguments(place, output, 3, *more)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "Starting 3 jobs" in result.stderr
    assert re.search(r"-s0-\w+: job \d+ ended without a result; its log: \S+_log.err\n", result.stderr)
    assert f"1 of 3 cells of the study {STUDY} did not complete" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout.count("Best by validation accuracy") == 1
    assert {seed: record["status"] for seed, record in records(output).items()} == {1: "completed", 2: "completed"}


@pytest.mark.parametrize("moment", [pytest.param("training", marks=pytest.mark.slow), "starting"])
def test_jobs_end_with_the_command_that_started_them(tmp_path: Path, moment: str) -> None:
    place, output = build(tmp_path), tmp_path / "out"
    long = ("trainer.max_steps=100000", "trainer.eval_every=100000", "trainer.checkpoint_every=1000000")
    command = [sys.executable, "-m", "src.train", *arguments(place, output, 1, "hydra/launcher=submitit_local", *long)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes) as process:
        paths = StudyPaths.of(output, STUDY)
        if moment == "training":
            wait_until(lambda: any(paths.runs.glob("*/progress.json")), 120)
            process.send_signal(signal.SIGTERM)
        else:  # Ctrl-C comes to the controllers of the jobs as well
            wait_until(lambda: any(output.rglob("*_submitted.pkl")), 120)
            os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-1] == job_launcher.STOPPED
    assert "Traceback" not in said
    assert [record["status"] for record in records(output).values()] == ["interrupted"] * (moment == "training")
    assert len(list(paths.runs.glob("*/checkpoints/step-*"))) == (moment == "training")
    assert Claims(paths).others() == {}
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(output).encode() in path.read_bytes()]
    assert left == []
    assert paths.page.exists()
