"""Training in a child process, so that a cell which kills its process takes no other cell with it.

What cannot be caught in Python (the system ends a process for want of memory, a library crashes) ends the child. Its
parent, which has loaded nothing large, knows from the claims which cells were training, and lets another child go on:
with these cells one by one, after all others, and without one that has killed its process on its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from src.errors import HarnessError
from src.records import Claims, StudyPaths

PASSED_ON = (signal.SIGINT, signal.SIGTERM)
# Signals by which somebody ends a process on purpose: nothing is tried again after them.
ON_PURPOSE = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
_PR_SET_PDEATHSIG = 1


class KilledError(HarnessError):
    """A cell's process was killed while it trained that cell alone."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"The process was killed by {signal.Signals(number).name} while it trained this cell alone. The system "
            "does that where memory runs out: try a smaller trainer.batch_size or trainer.gradient_checkpointing=true."
        )


@dataclass(frozen=True)
class Losses:
    """What killed processes of this command have left in a study.

    Attributes:
        suspects: run ids of cells that were training when a process was killed; they train alone.
        killed: those that trained alone when theirs was killed, with the signal.
        cautious: whether one was killed while no cell trained, as where it measured how many cells fit into memory.
        since: Unix time (seconds) at which the command began; None where that is not known.
    """

    suspects: frozenset[str] = frozenset()
    killed: Mapping[str, int] = field(default_factory=dict)
    cautious: bool = False
    since: float | None = None

    @property
    def happened(self) -> bool:
        """Whether a process was killed before this one."""
        return bool(self.suspects or self.killed or self.cautious)

    def after(self, training: set[str], number: int) -> Losses:
        """With one more process, killed by a signal while it trained these cells."""
        if len(training) == 1:
            return replace(self, killed={**self.killed, **dict.fromkeys(training, number)})
        return replace(self, suspects=self.suspects | training)


NO_LOSSES = Losses()


def isolate(studies: Sequence[StudyPaths], since: float | None = None) -> dict[StudyPaths, Losses]:
    """Go on in a child process, each time that a signal has killed the one before; the caller's process only waits.

    It passes on SIGINT and SIGTERM, and ends with its child's exit code. Where a process cannot be forked safely,
    because it is not Linux or torch or threads have been started, it goes on itself.

    Args:
        since: Unix time (seconds) at which the command began; None: now.

    Returns:
        In the child: of each study, what its forerunners have left.
    """
    losses = dict.fromkeys(studies, Losses(since=time.time() if since is None else since))
    if sys.platform != "linux" or "torch" in sys.modules or threading.active_count() > 1:
        return losses
    signals = {*PASSED_ON, signal.SIGCHLD}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as it may be from birth, it would tell of no child's end
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    while True:
        child = _fork()
        if not child:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
            return losses
        code = _wait(child, signals)
        if code >= 0:
            os._exit(code)
        training = {paths: Claims(paths).left_by(child) for paths in studies}
        after = {paths: losses[paths].after(names, -code) for paths, names in training.items()}
        if not any(training.values()):
            after = {paths: replace(loss, cautious=True) for paths, loss in after.items()}
        if -code in ON_PURPOSE or after == losses:
            print(f"The training process was ended by {signal.Signals(-code).name}.", file=sys.stderr, flush=True)
            os._exit(128 - code)
        _tell(-code, sum(map(len, training.values())))
        losses = after


def _fork() -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    parent, child = os.getpid(), os.fork()
    if not child:
        # Nobody would pass signals on to it any more.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return child


def _wait(child: int, signals: set[signal.Signals]) -> int:
    """Exit code of the child, or minus the signal that killed it."""
    while True:
        info = signal.sigwaitinfo(signals)
        if info.si_signo == signal.SIGCHLD:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
        elif info.si_code <= 0:  # a process sent it; what comes from the terminal reaches the child by itself
            os.kill(child, info.si_signo)


def _tell(number: int, num_cells: int) -> None:
    match num_cells:
        case 0:
            what = "no cell was training; going on with one cell at a time"
        case 1:
            what = "it trained this cell; it is recorded as failed"
        case _:
            what = f"it trained {num_cells} cells; they go on from their checkpoints, one by one, after all others"
    text = f"The training process was killed by {signal.Signals(number).name} while {what}."
    print(text, file=sys.stderr, flush=True)
