"""SIGINT and SIGTERM: while things are loaded they end the process, a training they ask to stop between two steps."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from src.errors import InterruptedRunError

logger = logging.getLogger(__name__)
BOTH = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = "Interrupted; the same command continues."
# Seconds within which signals count as one: `timeout`, SLURM and shells may signal a process and its group alike.
APART_S = 1.0


def end_on_signals() -> None:
    """From here on both signals end the process, with one sentence and exit code 130, unless `stop_on_signals` is at
    work.

    To be called before the libraries are loaded, which takes seconds.
    """
    asked: list[float] = []

    def end(number: int, frame: FrameType | None) -> None:
        again = bool(asked)
        if again and time.monotonic() < asked[0] + APART_S:
            return
        asked.append(time.monotonic())
        if not again and not _loads_code(frame):
            raise KeyboardInterrupt
        # In the middle of an import an exception may be swallowed, or come out as another one; and nothing is open yet.
        os.write(2, f"{INTERRUPTED}\n".encode())
        os._exit(InterruptedRunError.exit_code)

    for number in BOTH:
        signal.signal(number, end)


@contextmanager
def stop_on_signals(apart_s: float = APART_S) -> Iterator[threading.Event]:
    """An event that is set by SIGINT or SIGTERM while the block runs; the former handlers come back after it.

    A second signal raises KeyboardInterrupt, but not in a task of SLURM, which signals more than once and kills a task
    that takes too long. SIGUSR2, by which SLURM announces preemption and the end of a task's time, asks as well where
    somebody listens to it, such as submitit; it is passed on when the block has ended, and all is saved. Outside the
    main thread Python delivers no signals, and the event is never set.

    Args:
        apart_s: seconds within which signals count as one.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    second_from, asked = [0.0], list[int]()

    def ask(number: int, frame: FrameType | None) -> None:
        if not stop.is_set():
            stop.set()
            asked.append(number)
            second_from[0] = time.monotonic() + apart_s
            name = signal.Signals(number).name
            logger.warning("%s: stopping as soon as all is saved; once more stops at once", name)
        elif time.monotonic() >= second_from[0] and (number == signal.SIGINT or "SLURM_JOB_ID" not in os.environ):
            raise KeyboardInterrupt

    listened = callable(signal.getsignal(signal.SIGUSR2))
    former = {number: signal.signal(number, ask) for number in (*BOTH, *([signal.SIGUSR2] if listened else []))}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if signal.SIGUSR2 in asked:
            signal.raise_signal(signal.SIGUSR2)


@contextmanager
def hold_signals() -> Iterator[None]:
    """SIGINT and SIGTERM come when the block is over; processes that it starts are deaf to Ctrl-C until they heed it.

    A terminal sends Ctrl-C to all of them at once.
    """
    came: list[int] = []
    former = {number: signal.signal(number, lambda number, _: came.append(number)) for number in BOTH}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for number, handler in former.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def heed_ctrl_c() -> None:
    """End the deafness that a process has from `hold_signals` in the one that started it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _loads_code(frame: FrameType | None) -> bool:
    """Whether a module is being imported, or the program's own is still at its imports."""
    if frame is not None and frame.f_code.co_name == "<module>":
        return True
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False
