"""What one SLURM task runs: its cells, by the ordinary path, and requeues itself where it has to stop before its end.

submitit pickles a `Task`, which is no more than a path. Before the end of its time, and when it is preempted, SLURM
sends SIGUSR2, or SIGTERM where it is not told to pass that signal on (preempt_send_user_signal). The training stops
between two steps and writes its checkpoints; the task goes back into the queue under the same id and with the same
folder, and continues from them. While things are loaded the task goes back at once, without an exception, which a
library might take for a damaged file; submitit's own handler would raise SystemExit at any line.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from src.cluster.alive import beating
from src.cluster.queue import is_preempted, requeue
from src.cluster.submission import Payload, TaskFiles, read_payload
from src.errors import HarnessError, InterruptedRunError, WriteError
from src.experiment.processes.isolation import Losses, isolate
from src.records import StudyPaths, write_bytes_atomic

ASKING = (signal.SIGUSR2, signal.SIGTERM)


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
            raise SystemExit(_fail(str(error), files)) from error
        # Torch would take as many threads as the node has cores where SLURM does not bind the task to its own.
        os.environ.setdefault("OMP_NUM_THREADS", str(payload.settings.slurm.cpus))
        # SLURM signals every process of a task. The one that only waits for its child is to go on waiting.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        paths = StudyPaths.of(payload.settings.output_dir, payload.settings.study)
        losses = isolate([paths], since=payload.submitted)[paths]
        code = _train(payload, losses, files)
        if code:
            raise SystemExit(code)


def _train(payload: Payload, losses: Losses, files: TaskFiles) -> int:
    """Run the cells; the exit code."""
    for number in ASKING:
        signal.signal(number, partial(_leave, payload, files))
    try:
        with beating(files.alive):
            # Torch and transformers come with it: the task has to be able to stop before they are there.
            from src.experiment.study import run_part  # noqa: PLC0415

            run_part(payload.specs, payload.settings, losses)
        return 0
    except InterruptedRunError:
        asked = signal.SIGTERM
    except HarnessError as error:
        return _fail(str(error), files)
    except Exception as error:
        traceback.print_exception(error)
        return _fail(f"{type(error).__name__}: {error}", files)
    finally:
        _ignore_more()
    return _go_back(asked, payload, files)


def _leave(payload: Payload, files: TaskFiles, number: int, frame: FrameType | None) -> None:
    """End the process at once: between two steps it is `stop_on_signals` that listens, and passes SIGUSR2 on to here
    when all is saved. At any other time nothing is lost that a kill would not lose as well.
    """
    _ignore_more()
    code = HarnessError.exit_code
    try:
        with suppress(OSError):
            files.alive.unlink()
        code = _go_back(number, payload, files)
    finally:
        os._exit(code)


def _ignore_more() -> None:
    """SLURM signals more than once, and what it signals includes the commands that requeue the task."""
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)


def _go_back(asked: int, payload: Payload, files: TaskFiles) -> int:
    """Requeue the task where SLURM wants its place back; one that a person has cancelled stays away.

    Returns:
        Exit code: not 0 where it was requeued often enough, or SLURM refuses.
    """
    job = os.environ["SLURM_JOB_ID"]
    if asked == signal.SIGTERM and not is_preempted(job):
        _say("SIGTERM without preemption: the task ends; the same command continues its cells.")
        return 0
    most, so_far = payload.settings.slurm.requeues, int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if so_far >= most:
        return _fail(f"the task was requeued {so_far} times, as often as slurm.requeues allows", files)
    _say(f"{signal.Signals(asked).name}: the task goes back into the queue and continues from its checkpoints.")
    return 0 if requeue(job) else _fail("SLURM refused to requeue the task", files)


def _fail(why: str, files: TaskFiles) -> int:
    """Leave the cause where the launcher and src.status look for it; the exit code that says so."""
    _say(why)
    with suppress(WriteError):  # the log has it
        write_bytes_atomic(files.error, f"{why}\n".encode())
    return HarnessError.exit_code


def _say(text: str) -> None:
    """Past Python's buffers, which a signal's handler may have found at work."""
    os.write(sys.stderr.fileno(), f"{text}\n".encode())
