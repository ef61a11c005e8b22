"""What a task does when it is asked to go while nothing trains yet, and when it comes back; with a scontrol that only
notes what it is told. Tasks that stop in the middle of a training are in test_requeue.py, on a real SLURM.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from src.cluster.submission import Payload, TaskFiles, write_payload
from src.cluster.task import Task
from src.spec import SlurmSpec
from src.training.lane import Lane
from tests.cluster.commands import ROOT
from tests.cluster.slurm import wait_until
from tests.experiment.workplace import Workplace, record_of

# A pipe in the place of a file is a file that is never read to its end.
RUN = """
import os, sys
os.path.isfile = lambda path: os.path.exists(path) and not os.path.isdir(path)
from src.cluster.task import Task
Task(sys.argv[1])()
"""
SCONTROL = """#!/bin/sh
echo "$@" >> "{calls}"
sleep 0.5
case "$*" in
    *show*) echo "JobId=7 PreemptTime={preempted}" ;;
    *requeue*) exit {refused:d} ;;
esac
"""
USR2, TERM = signal.SIGUSR2, signal.SIGTERM


@dataclass(frozen=True)
class Asked:
    """A task that gets signals, as SLURM sends them: to each of its processes."""

    folder: Path
    files: TaskFiles

    @property
    def requeues(self) -> list[str]:
        calls = self.folder / "calls"
        told = calls.read_text().splitlines() if calls.exists() else []
        return [line for line in told if line.startswith("requeue")]

    @property
    def error(self) -> str:
        return self.files.error.read_text() if self.files.error.exists() else ""

    def scontrol(self, *, preempted: bool = True, refused: bool = False) -> None:
        """Put the stand-in where tasks find it."""
        program = self.folder / "scontrol"
        values = {"calls": self.folder / "calls", "preempted": "2026-11-21T12:00:00" if preempted else "None"}
        program.write_text(SCONTROL.format(**values, refused=refused))
        program.chmod(0o755)

    def ends_with(
        self, numbers: tuple[int, ...], when: Callable[[], bool], *, later: tuple[int, ...] = (), restarts: int = 0
    ) -> int:
        """Exit code of a task that gets signals as soon as that is so, and others while it is going back."""
        with self._start(restarts) as process:
            wait_until(lambda: when() or process.poll() is not None, 60)
            for number in numbers:
                os.killpg(process.pid, number)
            if later:
                wait_until(lambda: bool(self.requeues), 20)
            for number in later:
                os.killpg(process.pid, number)
            return process.wait(30)

    @contextmanager
    def _start(self, restarts: int) -> Iterator[subprocess.Popen[bytes]]:
        slurm = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
        environment = {**os.environ, **slurm, "PATH": f"{self.folder}:{os.environ['PATH']}"}
        command = [sys.executable, "-c", RUN, str(self.files.payload)]
        with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def task(place: Workplace, tmp_path: Path) -> Asked:
    """One whose model is never read to its end."""
    model = tmp_path / "model"
    model.mkdir()
    os.mkfifo(model / "config.json")
    settings = replace(place.settings(tmp_path / "out"), slurm=SlurmSpec(requeues=3))
    files = TaskFiles(tmp_path / "task-0000.json")
    write_payload(Payload((replace(place, model=model).spec(),), settings, time.time()), files)
    asked = Asked(tmp_path, files)
    asked.scontrol()
    return asked


@contextmanager
def held_open(pipe: Path) -> Iterator[Callable[[], bool]]:
    """Whether somebody reads the pipe; who does waits for ever."""
    writers: list[int] = []

    def is_read() -> bool:
        try:
            writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    try:
        yield is_read
    finally:
        for writer in writers:
            os.close(writer)


def test_a_task_that_loads_its_model_goes_back(task: Asked) -> None:
    """By an exception it would have looked as if the model could not be loaded."""
    with held_open(task.folder / "model" / "config.json") as is_read:
        assert task.ends_with((USR2,), is_read) == 0
    assert task.error == ""
    assert task.requeues == ["requeue 7"]
    assert not task.files.alive.exists()


@pytest.mark.parametrize("numbers", [(USR2, TERM), (TERM, USR2, TERM, TERM), (USR2, USR2, USR2)], ids=str)
def test_of_several_signals_one_counts(numbers: tuple[int, ...], task: Asked) -> None:
    assert task.ends_with(numbers, task.files.alive.exists) == 0
    assert task.requeues == ["requeue 7"]
    assert not task.files.alive.exists()
    assert task.error == ""


def test_further_signals_do_not_keep_it_from_going_back(task: Asked) -> None:
    """They reach the command that requeues it as well."""
    assert task.ends_with((USR2,), task.files.alive.exists, later=(TERM, USR2)) == 0
    assert task.requeues == ["requeue 7"]
    assert task.error == ""


def test_a_cancelled_task_stays_away(task: Asked) -> None:
    task.scontrol(preempted=False)
    assert task.ends_with((TERM,), task.files.alive.exists) == 0
    assert task.requeues == []
    assert not task.files.alive.exists()


def test_a_task_that_must_not_go_back_says_why(task: Asked) -> None:
    assert task.ends_with((USR2,), task.files.alive.exists, restarts=3) == 1
    assert "requeued 3 times" in task.error
    task.scontrol(refused=True)
    assert task.ends_with((USR2,), task.files.alive.exists) == 1
    assert "SLURM refused" in task.error


@pytest.fixture
def _signals() -> Iterator[None]:
    """A task in this process leaves its handlers behind."""
    former = {number: signal.getsignal(number) for number in (USR2, TERM)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_a_cell_that_failed_is_not_tried_again_by_a_requeue(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lane: Lane, loss: float) -> float:
        raise RuntimeError("a broken cell")

    files, spec, settings = TaskFiles(tmp_path / "task-0000.json"), place.spec(), place.settings(tmp_path / "out")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(Lane, "apply_step", fail)
    (run,) = place.runs([spec], tmp_path / "out")
    write_payload(Payload((spec,), settings, time.time()), files)
    Task(str(files.payload))()
    assert record_of(run)["status"] == "failed"
    monkeypatch.undo()
    Task(str(files.payload))()
    assert record_of(run)["status"] == "failed"
    # The same command again, which is another submission.
    write_payload(Payload((spec,), settings, time.time()), files)
    Task(str(files.payload))()
    assert record_of(run)["status"] == "completed"
