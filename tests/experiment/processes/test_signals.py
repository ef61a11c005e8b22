"""SIGINT and SIGTERM ask; a second one insists, unless it is the same again; afterwards everything is as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.experiment.processes.signals import INTERRUPTED, stop_on_signals

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def known_handlers() -> Iterator[None]:
    """Each test finds Python's own handler for SIGINT, also where the tests run in the background, which ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_sets_the_event_and_is_told(number: int, caplog: pytest.LogCaptureFixture) -> None:
    with stop_on_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
    assert f"{signal.Signals(number).name}: stopping as soon as all is saved; once more stops at once" in caplog.text


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_a_second_signal_stops_at_once(first: int, second: int) -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals(apart_s=0.0):
        signal.raise_signal(first)
        signal.raise_signal(second)


@pytest.mark.parametrize("second", BOTH)
def test_the_same_signal_by_two_ways_is_one(second: int) -> None:
    """As from `timeout`, which signals its child and then the whole group."""
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(second)
        assert stop.is_set()


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_former_handlers_come_back(error: type[BaseException] | None) -> None:
    former = [signal.getsignal(number) for number in BOTH]
    try:
        with stop_on_signals():
            assert [signal.getsignal(number) for number in BOTH] != former
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        assert error is not None
    assert [signal.getsignal(number) for number in BOTH] == former


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen: list[object] = []

    def work() -> None:
        with stop_on_signals() as stop:
            seen.extend([stop.is_set(), signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, signal.default_int_handler]


def test_in_a_slurm_task_only_a_person_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM signals more than once, and kills by itself what takes too long."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with stop_on_signals(apart_s=0.0) as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
    with pytest.raises(KeyboardInterrupt), stop_on_signals(apart_s=0.0):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_sigusr2_is_passed_on_when_all_is_saved() -> None:
    """To who listened to it before, such as submitit, which requeues the task and leaves."""
    told: list[str] = []
    former = signal.signal(signal.SIGUSR2, lambda number, frame: told.append("passed on"))
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGUSR2)
            assert stop.is_set()
            told.append("saved")
        assert told == ["saved", "passed on"]
        with stop_on_signals():
            signal.raise_signal(signal.SIGTERM)
        assert told == ["saved", "passed on"]
    finally:
        signal.signal(signal.SIGUSR2, former)


def test_sigusr2_is_left_alone_where_nobody_listens() -> None:
    with stop_on_signals():
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL


TWICE = """
import os, signal
from src.experiment.processes.signals import end_on_signals
end_on_signals()
write, left = os.write, [1]
def interrupted(handle, text):
    count = write(handle, text)
    if left:
        left.pop()
        signal.raise_signal(signal.SIGTERM)
    return count
os.write = interrupted
import asks
"""


def test_a_second_signal_while_the_first_ends_an_import_says_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    env = os.environ | {"PYTHONPATH": f"{Path(__file__).resolve().parents[3]}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", TWICE], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, f"{INTERRUPTED}\n")
