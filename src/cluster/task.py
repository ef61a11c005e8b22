"""What one SLURM task runs: its cells, by the ordinary path, and requeues itself where it has to stop before its end.

submitit pickles a `Task`, which is no more than a path. Before the end of its time, and when it is preempted, SLURM
sends SIGUSR2, or SIGTERM where it is not told to pass that signal on (preempt_send_user_signal). The training stops
between two steps and writes its checkpoints; the task goes back into the queue under the same id and with the same
folder, and continues from them. submitit's own handler would raise SystemExit at any line.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from src.cluster.alive import beating
from src.cluster.queue import is_preempted, requeue
from src.cluster.submission import Payload, TaskFiles, read_payload
from src.errors import HarnessError, InterruptedRunError
from src.experiment.isolation import Losses, isolate
from src.records import StudyPaths, write_bytes_atomic

ASKING = (signal.SIGUSR2, signal.SIGTERM)


class StoppedError(BaseException):
    """SLURM asks the task to go; not an Exception, so that nothing on the way takes it for a failed cell."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@dataclass(frozen=True)
class Task:
    """The callable that submitit pickles.

    Attributes:
        payload: path of the task's file.
    """

    payload: str

    def __call__(self) -> None:
        """Raises:
        SystemExit: the cells could not be run, or are left; the task's error file says why.
        """
        files = TaskFiles(Path(self.payload))
        try:
            files.error.unlink(missing_ok=True)
            payload = read_payload(files)
        except (OSError, HarnessError) as error:
            _fail(str(error), files)
        # Torch would take as many threads as the node has cores where SLURM does not bind the task to its own.
        os.environ.setdefault("OMP_NUM_THREADS", str(payload.settings.slurm.cpus))
        # SLURM signals every process of a task. The one that only waits for its child is to go on waiting.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        paths = StudyPaths.of(payload.settings.output_dir, payload.settings.study)
        losses = isolate([paths])[paths]
        asked = _train(payload, losses, files)
        if asked is not None:
            _go_back(asked, payload, files)


def _train(payload: Payload, losses: Losses, files: TaskFiles) -> int | None:
    """Run the cells; the signal where the task was asked to stop."""
    for number in ASKING:
        signal.signal(number, _stop)
    try:
        with beating(files.alive):
            # Torch and transformers come with it: the task has to be able to stop before they are there.
            from src.experiment.study import run_part  # noqa: PLC0415

            run_part(payload.specs, payload.settings, losses)
    except StoppedError as error:
        return error.number
    except InterruptedRunError:
        return signal.SIGTERM
    except Exception as error:
        _fail(str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}", files, error)
    finally:
        for number in ASKING:
            signal.signal(number, signal.SIG_IGN)
    return None


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError(number)


def _go_back(asked: int, payload: Payload, files: TaskFiles) -> None:
    """Requeue the task where SLURM wants its place back; one that a person has cancelled stays away.

    Raises:
        SystemExit: it was requeued often enough, or SLURM refuses.
    """
    job = os.environ["SLURM_JOB_ID"]
    if asked == signal.SIGTERM and not is_preempted(job):
        _say("SIGTERM without preemption: the task ends; the same command continues its cells.")
        return
    most, so_far = payload.settings.slurm.requeues, int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if so_far >= most:
        _fail(f"the task was requeued {so_far} times, as often as slurm.requeues allows", files)
    _say(f"{signal.Signals(asked).name}: the task goes back into the queue and continues from its checkpoints.")
    if not requeue(job):
        _fail("SLURM refused to requeue the task", files)


def _fail(why: str, files: TaskFiles, cause: Exception | None = None) -> NoReturn:
    """Leave the cause where the launcher and src.status look for it.

    Raises:
        SystemExit: always; SLURM calls the task failed.
    """
    _say(why)
    write_bytes_atomic(files.error, f"{why}\n".encode())
    raise SystemExit(HarnessError.exit_code) from cause


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
