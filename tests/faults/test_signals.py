"""SIGTERM and SIGINT to the command, at any time of its life: one checkpoint, one sentence, exit code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiment.workplace import Workplace, record_of, results
from tests.faults.command import Command, SignalIn
from tests.faults.state import check_whole
from tests.tracking.wandb_file import read_runs

ROOT = Path(__file__).resolve().parents[2]
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
INTERRUPTED = "Interrupted; the same command continues."
STOPPED = "Stopped as asked; run the same command again to continue from the checkpoint."
STOPPED_BETWEEN = "Stopped as asked; run the same command again to continue."
OFFLINE = ("tracking=wandb", "tracking.mode=offline", "tracking.log_every=1")

LOAD = "src.experiment.resources:load_base"
STEP = "src.experiment.observer:PackObserver.stepped"
VALIDATE, TEST = "src.training.loop:evaluate_lanes", "src.experiment.pack:evaluate_lanes"
REPORT = "src.experiment.study:write_report"
CLOSE = "src.tracking.wandb_tracker:WandbTracker.close"


def command_in(place: Workplace, folder: Path, *more: str) -> Command:
    return Command(place, folder / "out", folder, more)


def interrupt(command: Command, prepare: Callable[[], None]) -> list[str]:
    """Run it until a signal ends it; the lines it told."""
    child = command.start(prepare)
    assert child.wait() == 130, child.text
    assert "Traceback" not in child.text
    assert "Exception ignored" not in child.text
    check_whole(command.output)
    return child.text.splitlines()


def finish(command: Command, whole: Command) -> None:
    command.finish()
    assert results(command.runs) == results(whole.runs)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_between_two_steps(place: Workplace, whole: Command, tmp_path: Path, number: int) -> None:
    command = command_in(place, tmp_path)
    told = interrupt(command, SignalIn(STEP, (number,), calls=4))
    assert told[-1] == STOPPED
    assert sum("stopping as soon as all is saved; once more stops at once" in line for line in told) == 1
    assert command.statuses == {"interrupted": 2}
    assert command.checkpoints == ["step-00000005"] * 2
    finish(command, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        (LOAD, 0, {}, []),  # before the first pack
        (VALIDATE, 0, {"interrupted": 2}, ["step-00000006"] * 2),  # the validation is done
        (VALIDATE, 1, {"completed": 2}, []),  # that of the end: the two have nothing left to train, and are tested
        (TEST, 0, {"completed": 2}, []),
        (TEST, 1, {"completed": 4}, []),
        (REPORT, 0, {"completed": 4}, []),
    ],
)
@BOTH
def test_while_something_else_is_done(
    place: Workplace, whole: Command, tmp_path: Path, number: int, case: tuple[str, int, dict[str, int], list[str]]
) -> None:
    where, calls, statuses, checkpoints = case
    command = command_in(place, tmp_path)
    told = interrupt(command, SignalIn(where, (number,), calls))
    assert told[-1] in {INTERRUPTED, STOPPED, STOPPED_BETWEEN}
    assert command.statuses == statuses
    assert command.checkpoints == checkpoints
    table = command.output / "tiny" / "report" / "table.md"
    assert table.exists() == (where not in {LOAD, REPORT})
    finish(command, whole)


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(signal.SIGINT,) * 2, (signal.SIGTERM,) * 2, (signal.SIGTERM, signal.SIGINT)])
@pytest.mark.parametrize("where", [STEP, VALIDATE, TEST, REPORT])
def test_twice_stops_at_once(
    place: Workplace, whole: Command, tmp_path: Path, numbers: tuple[int, ...], where: str
) -> None:
    command = command_in(place, tmp_path)
    assert interrupt(command, SignalIn(where, numbers))[-1] == INTERRUPTED
    finish(command, whole)


@pytest.mark.parametrize(
    ("where", "numbers", "calls"),
    [
        (STEP, (signal.SIGTERM,), 4),
        pytest.param(STEP, (signal.SIGINT, signal.SIGINT), 4, marks=pytest.mark.slow),
        pytest.param(TEST, (signal.SIGINT,), 0, marks=pytest.mark.slow),
        pytest.param(CLOSE, (signal.SIGTERM,), 0, marks=pytest.mark.slow),
        pytest.param(REPORT, (signal.SIGTERM,), 0, marks=pytest.mark.slow),
    ],
)
def test_runs_of_wandb_are_closed(
    place: Workplace, tmp_path: Path, where: str, numbers: tuple[int, ...], calls: int
) -> None:
    """Every run that was begun has its exit record, and its rows up to the step of the signal."""
    command = command_in(place, tmp_path, *OFFLINE)
    interrupt(command, SignalIn(where, numbers, calls))
    begun = [run for run in (command.output / "tiny" / "runs").iterdir() if (run / "wandb").exists()]
    assert len(begun) >= 2
    taken = calls + 2 - len(numbers)  # a second signal comes before the step that it interrupts is logged
    for run in begun:
        (mirrored,) = read_runs(run)
        completed = any(own.root == run and record_of(own)["status"] == "completed" for own in command.runs)
        assert mirrored.exit_code == (0 if completed else 1)
        steps = [row["step"] for row in mirrored.rows if "train/loss" in row]
        assert steps == list(range(1, (12 if completed else taken) + 1))


def begin(command: Command) -> subprocess.Popen[str]:
    """The real command, from its first import on: it listens to signals, and has loaded nothing else."""
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", *command.arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    while not catches(process.pid, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.002)
    return process


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(fields["SigCgt"], 16) >> (number - 1) & 1)


def signal_after(command: Command, number: int, seconds: float) -> tuple[int, str]:
    """Signal its whole process group, as a terminal does; exit code and what was told."""
    process = begin(command)
    time.sleep(seconds)
    os.killpg(process.pid, number)
    told, _ = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, 0.0), (signal.SIGTERM, 1.5)])
def test_while_it_starts(place: Workplace, tmp_path: Path, number: int, seconds: float) -> None:
    assert signal_after(command_in(place, tmp_path), number, seconds) == (130, f"{INTERRUPTED}\n")


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("tenths", range(0, 60, 2))
def test_at_any_time_of_a_start(place: Workplace, tmp_path: Path, number: int, tenths: int) -> None:
    """While Hydra, torch and transformers are imported, the config is composed, data and model are loaded."""
    code, told = signal_after(command_in(place, tmp_path), number, tenths / 10)
    assert code == 130, told
    assert told.splitlines()[-1] in {INTERRUPTED, STOPPED, STOPPED_BETWEEN}
    assert "Traceback" not in told and "Exception ignored" not in told
