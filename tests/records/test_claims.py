"""Claims between real processes: one at a time, gone with whoever holds them, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from src.errors import WriteError
from src.records import Claims, StudyPaths

ROOT = Path(__file__).resolve().parents[2]
TAKES = """
import sys
from src.records import Claims, StudyPaths
from pathlib import Path
claims = Claims(StudyPaths(Path(sys.argv[1])))
print(*[claims.take(name) for name in sys.argv[2:]], flush=True)
sys.stdin.read()
"""


@contextmanager
def neighbour(study: StudyPaths, *names: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process that takes names and holds what it gets, and what it got."""
    command = [sys.executable, "-c", TAKES, str(study.root), *names]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


@pytest.fixture
def study(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path / "study")


def test_one_process_at_a_time(study: StudyPaths) -> None:
    mine = Claims(study)
    assert mine.take("a")
    assert mine.take("a"), "taking twice is taking once"
    with neighbour(study, "a", "b", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3") as (process, got):
        assert got == ["False", "True"]
        assert not mine.take("b")
        assert mine.holder("a") is None, "others are looked for"
        assert set(mine.others()) == {"b"}
        holder = mine.others()["b"]
        assert (holder.host, holder.pid, holder.job) == (socket.gethostname(), process.pid, "7_3")
        assert mine.left_by(process.pid) == set(), "it is still at work"
    mine.release("a")
    with neighbour(study, "a") as (_, got):
        assert got == ["True"]


def test_a_killed_process_holds_nothing_and_its_claims_tell_what_it_was_at(study: StudyPaths) -> None:
    mine = Claims(study)
    with neighbour(study, "a", "b", ".other") as (process, _):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert mine.others() == {}
        assert mine.left_by(process.pid) == {"a", "b"}
        assert mine.left_by(process.pid + 1) == set()
        assert mine.take("a")
        assert mine.left_by(process.pid) == {"b"}


def test_nothing_is_left_when_all_is_given_back(study: StudyPaths) -> None:
    mine = Claims(study)
    assert mine.take("a") and mine.take("b")
    mine.release("a")
    mine.release("never taken")
    mine.close()
    assert all(path.stat().st_size == 0 for path in study.claims.iterdir())
    assert mine.others() == {}


def test_what_was_held_for_something_else_is_not_held_against_its_cell(study: StudyPaths) -> None:
    mine = Claims(study)
    assert mine.take("a", to_train=False) and mine.take("b")
    assert Claims(study).others().keys() == {"a", "b"}
    for handle in mine._held.values():  # as the system does when the process is killed
        os.close(handle)
    assert Claims(study).left_by(os.getpid()) == {"b"}


def test_who_looks_does_not_get_in_the_way(study: StudyPaths) -> None:
    mine, watcher, ended = Claims(study), Claims(study), threading.Event()

    def look() -> None:
        while not ended.is_set():
            watcher.others()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(1000):
            assert mine.take("a")
            mine.release("a")
    finally:
        ended.set()
        thread.join()


def test_never_two_holders(study: StudyPaths) -> None:
    inside, most, lock = [0], [0], threading.Lock()

    def work(_: int) -> int:
        claims, taken = Claims(study), 0
        for _ in range(300):
            if claims.take("a"):
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                taken += 1
                with lock:
                    inside[0] -= 1
                claims.release("a")
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) >= 8
    assert most[0] == 1


def test_a_study_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "study").touch()
    with pytest.raises(WriteError, match=r"Cannot write a in .*claims"):
        Claims(StudyPaths(tmp_path / "study")).take("a")
