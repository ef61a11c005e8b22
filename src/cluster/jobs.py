"""The jobs of Hydra's own submitit launchers: followed by squeue, waited for to the last one, stopped with the command.

Those launchers wait in the order of submission and let go of all jobs at the first that has no result; where SLURM
keeps no accounts they wait for a killed one for ever.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.local.local import LocalJob
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from src.cluster.queue import read_queue
from src.errors import HarnessError, brief
from src.experiment.processes.signals import hold_signals
from src.records.text import one_line

Job = submitit.Job[Any]
# Seconds between two questions to squeue, and for which it may be silent before its jobs are given up.
ASK_S, SILENCE_S = 20, 600
POLL_S, LATE_S = 0.5, 15.0
LONGEST = 400  # characters of what sbatch says
# Seconds that a job has to write its checkpoint.
STOP_S = 60
CONTROLLER = "submitit.local._local"


class QueueWatcher(SlurmInfoWatcher):
    """Asks squeue, which always works, in place of sacct, which knows nothing where SLURM keeps no accounts.

    A job that squeue no longer has, or that is held, is over; submitit looks for its result once more.
    """

    def __init__(self) -> None:
        super().__init__(delay_s=ASK_S)
        self._answered = time.monotonic()

    def update(self) -> None:
        """Part of submitit's interface."""
        waiting = self._registered - self._finished
        self._last_status_check = time.time()
        queue = read_queue({job.partition("_")[0] for job in waiting})
        if queue is not None:
            self._answered = time.monotonic()
        elif time.monotonic() - self._answered < SILENCE_S:
            return
        for job in waiting:
            entry = None if queue is None else queue.get(job)
            if entry is None or entry.is_stuck:
                gone = "gone from the queue" if queue is not None else "squeue has not answered for long; it may go on"
                self._info_dict[job] = {"State": "held" if entry else gone}
                self._finished.add(job)
            else:
                # Of squeue's many words for jobs that are not over submitit knows these two.
                self._info_dict[job] = {"State": "RUNNING" if entry.has_started else "PENDING"}


@contextmanager
def submitted(ended: Callable[[int, Any], None]) -> Iterator[list[Job]]:
    """Jobs that are submitted within are waited for at once, each to its end; SLURM's are watched by squeue.

    Whoever submits them gets none to wait for.

    Args:
        ended: told the place of a job that has ended, and what it came to (see `result_of`).

    Raises:
        HarnessError: sbatch has refused.
    """
    jobs: list[Job] = []
    submit, watcher = submitit.AutoExecutor.map_array, SlurmJob.watcher

    def submit_and_wait(self: submitit.AutoExecutor, *arguments: Any) -> Sequence[Job]:
        try:
            # Or Ctrl-C came to the controllers of local jobs, which kill those that are saving a checkpoint.
            with hold_signals():
                jobs.extend(submit(self, *arguments))
        except (FailedJobError, FailedSubmissionError) as error:
            raise HarnessError(f"Nothing was submitted: sbatch says: {one_line(str(error), LONGEST)}") from error
        _wait(jobs, ended)
        return []

    submitit.AutoExecutor.map_array = submit_and_wait  # type: ignore[method-assign, assignment]
    SlurmJob.watcher = QueueWatcher()
    try:
        yield jobs
    finally:
        submitit.AutoExecutor.map_array, SlurmJob.watcher = submit, watcher  # type: ignore[method-assign]


def _wait(jobs: Sequence[Job], ended: Callable[[int, Any], None]) -> None:
    waiting, gone = dict(enumerate(jobs)), dict[int, float]()
    while waiting:
        for place, job in list(waiting.items()):
            now = time.monotonic()
            # A shared file system may show a result late.
            over = job.done() and (job.paths.result_pickle.exists() or now - gone.setdefault(place, now) > LATE_S)
            if over:
                del waiting[place]
                ended(place, result_of(job))
        time.sleep(POLL_S)


def result_of(job: Job) -> Any:
    """What a job that has ended returned, or in place of it an error that says what became of it."""
    log = f"its log: {job.paths.stderr}"
    if not job.paths.result_pickle.exists():
        state = "" if isinstance(job, LocalJob) else f" ({job.state})"
        return HarnessError(f"job {job.job_id} ended without a result{state}; {log}")
    try:
        outcome, result = job._get_outcome_and_result()
    except Exception as error:
        return HarnessError(f"job {job.job_id} left a result that cannot be read ({error}); {log}")
    if outcome == "success":
        return result
    return HarnessError(f"job {job.job_id} failed: {brief(str(result).strip().splitlines()[-1])}; {log}")


def stop(jobs: Sequence[Job]) -> str:
    """Stop the jobs of submitit_local as Ctrl-C stops a run, with a checkpoint; those of SLURM go on.

    Args:
        jobs: all that is known to have been submitted; local ones are found without.

    Returns:
        What goes on, in a sentence; empty where nothing does.
    """
    told: set[int] = set()
    deadline = time.monotonic() + STOP_S
    while controllers := [pid for pid in _children(os.getpid()) if CONTROLLER in _command(pid)]:
        late = time.monotonic() > deadline
        # A controller may have to begin before it has a task.
        tasks = {task for controller in controllers for task in _children(controller)}
        for pid in tasks if late else tasks - told:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGINT)
        told |= tasks
        time.sleep(POLL_S)
    ids = " ".join(sorted({str(job.job_id).partition("_")[0] for job in jobs if not isinstance(job, LocalJob)}))
    return f"SLURM job {ids} goes on without this command; `scancel {ids}` ends it." if ids else ""


def _children(pid: int) -> list[int]:
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == pid]


def _parent(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text()
    except OSError:
        return ""
