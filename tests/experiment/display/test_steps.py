"""The file that tells others the step of a run: there in time, whole, and gone with the run's end."""

from __future__ import annotations

import json
from pathlib import Path

from src.experiment.display.steps import EVERY_S, SHARE, StepFiles, forget_step


class Clock:
    """Stands still unless it is moved; each look at it may take time."""

    def __init__(self) -> None:
        self.now, self.takes = 0.0, 0.0

    def __call__(self) -> float:
        self.now += self.takes
        return self.now


def test_it_is_written_every_few_seconds(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "run" / "progress.json"
    steps = StepFiles(clock)
    steps.update([(path, 1, 12)])
    assert not path.exists()
    clock.now = EVERY_S
    steps.update([(path, 2, 12)])
    assert json.loads(path.read_text()) == {"step": 2, "steps": 12}
    clock.now += EVERY_S / 2
    steps.update([(path, 3, 12)])
    assert json.loads(path.read_text())["step"] == 2
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    forget_step(path)
    forget_step(path)
    assert not path.exists()


def test_where_writing_is_slow_it_is_done_less_often(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "progress.json"
    steps = StepFiles(clock)
    clock.now, clock.takes = EVERY_S, 1.0
    steps.update([(path, 1, 9)])
    clock.takes = 0.0
    clock.now += 1 / SHARE - 5
    steps.update([(path, 2, 9)])
    assert json.loads(path.read_text())["step"] == 1
    clock.now += 10
    steps.update([(path, 3, 9)])
    assert json.loads(path.read_text())["step"] == 3


def test_a_folder_that_cannot_be_written_stops_no_training(tmp_path: Path) -> None:
    clock = Clock()
    steps = StepFiles(clock)
    clock.now = EVERY_S
    (tmp_path / "file").touch()
    steps.update([(tmp_path / "file" / "progress.json", 1, 9)])
