"""`hydra/sweeper=optuna` as a person starts it: real searches on a tiny model."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from src.hydra_plugins.search import WorstWhereNone
from tests.experiment.workplace import Workplace, build

ROOT = Path(__file__).resolve().parents[2]
INTERVAL = "optim.lr=tag(log, interval(1e-3, 3e-2))"
needs_extra = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="the extra optuna is absent")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def search(
    place: Workplace, output: Path, *overrides: str, python: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, *python, "-m", "src.train", "-m", "hydra/sweeper=optuna", f"model.path={place.model}",
        "task=own", f"task.path={place.data}", "task.test_split=null", "task.max_length=16", "task.train_size=null",
        "task.validation_size=12", "task.test_size=12", "tracking=none", "trainer.max_steps=6", "trainer.dtype=float32",
        "study=tiny", f"output_dir={output}", f"cache_dir={place.cache}", "device=cpu", *overrides,
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(output.glob("tiny/runs/*/record.json"))]


@needs_extra
def test_the_best_score_wins_and_the_same_command_again_trains_nothing(place: Workplace, tmp_path: Path) -> None:
    """The metric is a loss, so that the lowest is the best; two batches, of which each trains in one pack."""
    arguments = [INTERVAL, "hydra.sweeper.n_trials=5", "pack=3", "task.metric=loss"]
    first = search(place, tmp_path, *arguments)
    assert first.returncode == 0, first.stderr
    found = records(tmp_path)
    losses = {record["spec"]["optim"]["lr"]: record["metrics"]["validation"]["loss"] for record in found}
    assert len(losses) == 5
    assert all(1e-3 <= rate <= 3e-2 for rate in losses)
    assert sorted(record["time"]["pack_size"] for record in found) == [2, 2, 3, 3, 3]
    rate = min(losses, key=losses.__getitem__)
    assert first.stdout.splitlines()[-1] == f"Best of the search, validation {losses[rate]:.4f}: optim.lr={rate}"

    again = search(place, tmp_path, *arguments)
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert "Study tiny: 3 cells, 3 done" in again.stderr
    assert records(tmp_path) == found


@needs_extra
def test_cells_that_diverge_do_not_end_the_search(place: Workplace, tmp_path: Path) -> None:
    result = search(
        place, tmp_path, "optim.lr=1e-2,1e25", "optim.clip=null", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=1"
    )
    assert result.returncode == 0, result.stderr
    assert sorted(record["status"] for record in records(tmp_path)) == ["completed", "diverged"]
    assert re.match(r"Best of the search, validation 0\.\d{4}: optim\.lr=0\.01$", result.stdout.splitlines()[-1])
    assert "Traceback" not in result.stderr and "Failed" not in result.stderr


def test_a_cell_without_a_score_has_the_worst_one() -> None:
    class Two(Launcher):
        def setup(self, **_: Any) -> None: ...

        def launch(self, job_overrides: Any, initial_job_idx: int) -> list[JobReturn]:
            return [JobReturn(_return_value=score, status=JobStatus.COMPLETED) for score in (0.5, None)]

    assert [job.return_value for job in WorstWhereNone(Two(), math.inf).launch([], 0)] == [0.5, math.inf]


@needs_extra
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials is 0; allowed: a whole number of at least 1.\n"),
        ("hydra/sweeper/sampler=nope", "hydra/sweeper/sampler is 'nope'; allowed: tpe, random, cmaes or nsgaii.\n"),
    ],
)
def test_wrong_options_exit_with_2(place: Workplace, tmp_path: Path, wrong: str, said: str) -> None:
    result = search(place, tmp_path, INTERVAL, wrong)
    assert (result.returncode, result.stderr) == (2, said)
    assert records(tmp_path) == []


def test_without_the_extra_it_says_how_to_get_it(place: Workplace, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name != "hydra_plugins" and not entry.name.startswith("optuna"):
            (packages / entry.name).symlink_to(entry)
    # -S: without the real site-packages.
    result = search(place, tmp_path / "out", INTERVAL, python=("-S",), PYTHONPATH=str(packages))
    assert result.returncode == 2
    assert result.stderr == (
        "hydra/sweeper is 'optuna'; allowed: grid; or optuna, after: pip install -c constraints.txt -e \".[optuna]\".\n"
    )
