"""Several processes on one study: each cell is trained by one of them, and one that dies leaves its cells to others."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from src.records import Claims, StudyPaths
from tests.experiment.workplace import Workplace, build
from tests.neighbours.sweep import STUDY, arguments, records, start, tensors


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def trained(output: Path) -> Counter[str]:
    """How often each cell was reported done, by any process."""
    return Counter(re.findall(r"(\S+): completed", (output / STUDY / "study.log").read_text()))


def test_two_processes_share_a_study(place: Workplace, tmp_path: Path) -> None:
    command = arguments(place, tmp_path, 8, "pack=2")
    processes = [start({}, command) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len(records(tmp_path)) == 8
    assert set(trained(tmp_path).values()) == {1}
    assert sum(trained(tmp_path).values()) == 8
    assert all("8 cells" in text and text.count(": completed") < 8 for text in said), "both have done a part"
    assert all(path.stat().st_size == 0 for path in (tmp_path / STUDY / ".claims").iterdir())


def test_what_a_killed_neighbour_had_begun_is_finished_by_the_other(place: Workplace, tmp_path: Path) -> None:
    """Killed together with its parent, as by the end of a machine."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    process = start({}, arguments(place, alone, 4, "pack=2"))
    process.communicate(timeout=300)

    command = arguments(place, shared, 4, "pack=2")
    first = start({}, command)
    claims = Claims(StudyPaths(shared / STUDY))
    while not claims.others():
        assert first.poll() is None
        time.sleep(0.01)
    holder = next(iter(claims.others().values()))
    os.kill(holder.pid, signal.SIGSTOP)
    second = start({}, command)
    while len(records(shared)) < 2:
        assert second.poll() is None
        time.sleep(0.05)
    first.kill()
    said, _ = second.communicate(timeout=300)
    first.communicate(timeout=60)
    assert second.returncode == 0, said
    assert "Waiting for the last 2 cells, which process" in said
    assert set(trained(shared).values()) == {1}
    assert tensors(shared) == tensors(alone)
