"""The run's own log of metrics: what a tracker is sent, also after an interruption."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from src.errors import InterruptedRunError
from src.experiment.study import run_study
from src.records import RunPaths, read_rows
from src.spec import RunSpec, TrackingSpec
from tests.experiment.workplace import Workplace, build, record_of
from tests.faults.signalled import after_steps

STEPS = 12  # validations after 6 and 12, checkpoints after 4 and 8
EVERY = TrackingSpec("none", log_every=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def cells(place: Workplace) -> list[RunSpec]:
    return [place.spec("qv", 1, dropout=0.2), place.spec("all", 4, seed=1)]


def logged(runs: list[RunPaths]) -> list[list[dict[str, Any]]]:
    """Rows of each run, without times."""
    return [
        [{name: row[name] for name in row if name != "train/tokens_per_s"} for row in read_rows(run.metrics)]
        for run in runs
    ]


@pytest.fixture(scope="module")
def whole(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    output = tmp_path_factory.mktemp("whole")
    run_study(cells(place), place.settings(output, tracking=EVERY))
    return logged(place.runs(cells(place), output))


def test_every_step_and_validation_has_a_row(
    place: Workplace, whole: list[list[dict[str, Any]]], tmp_path: Path
) -> None:
    steps = [*range(1, 7), 6, *range(7, 13), 12]
    assert [[row["step"] for row in rows] for rows in whole] == [steps] * 2
    assert all(row["train/loss"] > 0 and row["train/lr"] >= 0 for rows in whole for row in rows if "epoch" not in row)
    run_study(cells(place), place.settings(tmp_path, tracking=EVERY, pack=1))
    runs = place.runs(cells(place), tmp_path)
    for run in runs:
        seen = [(row["step"], row["validation/accuracy"]) for row in read_rows(run.metrics) if "epoch" in row]
        history = record_of(run)["metrics"]["history"]
        assert seen == [(point["step"], point["validation"]["accuracy"]) for point in history]


def test_steps_between_rows_are_those_of_the_config(place: Workplace, tmp_path: Path) -> None:
    run_study(cells(place)[:1], place.settings(tmp_path, tracking=TrackingSpec("none", log_every=5)))
    (run,) = place.runs(cells(place)[:1], tmp_path)
    assert [row["step"] for row in read_rows(run.metrics)] == [5, 6, 10, 12]


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("after", [2, 6, 10])
def test_after_an_interruption_no_row_is_missing_or_there_twice(
    place: Workplace, whole: list[list[dict[str, Any]]], tmp_path: Path, after: int, crash: bool
) -> None:
    def crashes() -> None:
        # As if killed: no checkpoint, and what was logged since the last one is logged again.
        raise KeyboardInterrupt

    with (
        after_steps(after, crashes if crash else lambda: signal.raise_signal(signal.SIGTERM)),
        pytest.raises((InterruptedRunError, KeyboardInterrupt)),
    ):
        run_study(cells(place), place.settings(tmp_path, tracking=EVERY))
    runs = place.runs(cells(place), tmp_path)
    assert [max(row["step"] for row in rows) for rows in logged(runs)] == [after] * 2
    run_study(cells(place), place.settings(tmp_path, tracking=EVERY))
    assert logged(runs) == whole
