"""What runs in the processes that tests kill: forked from one that has loaded everything, so a start costs nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.process
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import src.reporting.figures
import src.reporting.frames
import src.reporting.html  # noqa: F401
from src import train
from src.errors import HarnessError
from src.experiment.processes.signals import end_on_signals
from src.experiment.study import StudyOutcome, run_part, run_study
from src.spec import RunSpec, Settings

# A fork takes over the memory of OpenMP's threads, not the threads; and one thread is quickest for models so small.
torch.set_num_threads(1)

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pytest", "tests.faults.child"])
Prepare = Callable[[], None]


def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Child:
    """A process that has been started.

    Attributes:
        told: where its stdout and stderr go.
    """

    process: multiprocessing.process.BaseProcess
    told: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit code, negative where a signal ended it."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            raise TimeoutError(self.text)
        return code

    @property
    def text(self) -> str:
        return self.told.read_text(errors="replace")


def start_study(specs: Sequence[RunSpec], settings: Settings, told: Path, prepare: Prepare = nothing) -> Child:
    """`run_study` in a process of its own; exit codes as those of the command."""
    return _start(_study, told, prepare, run_study, list(specs), settings)


def start_part(specs: Sequence[RunSpec], settings: Settings, told: Path, prepare: Prepare = nothing) -> Child:
    """`run_part`, which writes no report."""
    return _start(_study, told, prepare, run_part, list(specs), settings)


def start_command(arguments: Sequence[str], told: Path, prepare: Prepare = nothing) -> Child:
    """``python -m src.train`` in a process of its own, from where its imports are done."""
    return _start(_command, told, prepare, list(arguments))


def _start(work: Callable[..., int], told: Path, *arguments: Any) -> Child:
    process = _CONTEXT.Process(target=_run, args=(work, told, *arguments), daemon=True)
    process.start()
    return Child(process, told)


def _run(work: Callable[..., int], told: Path, prepare: Prepare, *arguments: Any) -> None:
    with told.open("a", buffering=1) as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        prepare()
        code = work(*arguments)
    sys.exit(code)


def _study(run: Callable[..., StudyOutcome], specs: Sequence[RunSpec], settings: Settings) -> int:
    try:
        return 1 if run(specs, settings).num_failed else 0
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _command(arguments: Sequence[str]) -> int:
    sys.argv = ["src.train", *arguments]
    end_on_signals()
    return train.cli()
