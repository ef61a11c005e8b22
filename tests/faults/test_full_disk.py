"""A disk that is full before or while a sweep writes: one clear error, nothing damaged, the rest when there is room.

The disk is a small tmpfs; every file of the study, of the caches or of W&B may be the one that no longer fits.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiment.workplace import Workplace, results, snapshot
from tests.faults.command import Command
from tests.faults.small_disk import PAGE, Disk, small_disk
from tests.faults.state import check_whole, costs

SEED = 20261121
POINTS = 20
OFFLINE = ("tracking=wandb", "tracking.mode=offline")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


def needed(folder: Path) -> int:
    """Bytes that a folder's files take on a disk of pages."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


def fill_and_go_on(disk: Disk, command: Command, whole: Command, free: int) -> str:
    """Run on a disk that becomes full, then again with room; what was told of the full one."""
    # W&B's service writes the last line of its own log when the command before has long ended.
    kept = {path: held for path, held in snapshot(disk.root).items() if not ("/wandb/" in path and "/logs/" in path)}
    disk.leave(free)
    child = command.start()
    assert child.wait() == 1, child.text
    check_told(child.text)
    check_whole(disk.root)
    assert {path: now for path, now in snapshot(disk.root).items() if path in kept} == kept
    disk.clear()
    command.finish()
    assert results(command.runs) == results(whole.runs)
    assert costs(command.runs) == costs(whole.runs)
    check_whole(disk.root)
    return child.text


def check_told(text: str) -> None:
    """The cause is the last line, says what is full and where, and there is no traceback."""
    last = text.splitlines()[-1]
    assert "No space left on device" in last or "Not enough disk space" in last
    assert "Traceback" not in text
    assert "Exception ignored" not in text


def offsets(total: int, count: int) -> list[int]:
    """Free bytes, drawn over all that is written; the first is 0."""
    draw = random.Random(SEED)
    return [0, *sorted(draw.randrange(PAGE, total - PAGE) for _ in range(count - 1))]


def command_on(place: Workplace, disk: Disk, name: str, *more: str) -> Command:
    return Command(place, disk.root / name, disk.root.parent, more)


def fill_at(place: Workplace, whole: Command, disk: Disk, points: slice, *more: str) -> None:
    """A full disk at some of the points of what a study writes, beside another study that is there already."""
    shutil.copytree(whole.output, disk.root / "earlier")
    total = needed(whole.output)
    for number, free in enumerate(offsets(total, POINTS)[points]):
        fill_and_go_on(disk, command_on(place, disk, f"out-{number}", *more), whole, free)


def test_at_a_point_on_the_way(place: Workplace, whole: Command, disk: Disk) -> None:
    fill_at(place, whole, disk, slice(6, 7))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_at_twenty_points(place: Workplace, whole: Command, disk: Disk, part: int) -> None:
    fill_at(place, whole, disk, slice(part, POINTS, 4))


@pytest.mark.slow
def test_with_what_wandb_writes(place: Workplace, whole: Command, disk: Disk) -> None:
    fill_at(place, whole, disk, slice(0, POINTS, 4), *OFFLINE)


@pytest.mark.slow
@pytest.mark.parametrize("point", range(0, POINTS, 4))
def test_a_cache_that_does_not_fit(place: Workplace, whole: Command, disk: Disk, tmp_path: Path, point: int) -> None:
    """Prepared data, token ids and what datasets keeps: nothing in the cache is taken for whole that is not."""
    emptied = dataclasses.replace(place, cache=disk.root / "cache")
    disk.leave(offsets(needed(place.cache), POINTS)[point])
    command = Command(emptied, tmp_path / "out", tmp_path)
    child = command.start()
    assert child.wait() in {0, 1}, child.text
    if child.process.exitcode == 1:
        check_told(child.text)
    disk.clear()
    command.finish()
    assert results(command.runs) == results(whole.runs)
