"""The jobs of Hydra's own submitit launchers: followed by squeue, waited for to the last one, stopped with the command.

Those launchers wait in the order of submission and let go of all jobs at the first that has no result, and where SLURM
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
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.local.local import LocalJob
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from src.cluster.queue import read_queue
from src.errors import HarnessError, brief
from src.records.text import one_line

Job = submitit.Job[Any]
# What submitit raises in place of a job's result.
OF_A_JOB = (FailedJobError, UncompletedJobError)
# Seconds between two questions to squeue, and for which it may be silent before its jobs are given up.
ASK_S, SILENCE_S = 20, 600
POLL_S = 0.5
LONGEST = 400  # characters of what sbatch says
# Seconds that a job has to write its checkpoint.
STOP_S = 60


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
                self._info_dict[job] = {"State": "held" if entry else "gone from the queue"}
                self._finished.add(job)
            else:
                # Of squeue's many words for jobs that are not over submitit knows these two.
                self._info_dict[job] = {"State": "RUNNING" if entry.has_started else "PENDING"}


@contextmanager
def submitted(ended: Callable[[int, Any], None]) -> Iterator[list[Job]]:
    """Jobs that are submitted within are waited for at once, each to its end; SLURM's are watched by squeue.

    Args:
        ended: told the place of a job that has ended, and what it came to (see `result_of`).

    Raises:
        HarnessError: sbatch has refused.
    """
    jobs: list[Job] = []
    submit, watcher = submitit.AutoExecutor.map_array, SlurmJob.watcher

    def submit_and_wait(self: submitit.AutoExecutor, *arguments: Any) -> Sequence[Job]:
        # Ctrl-C comes to the controllers of local jobs as well, which would kill those that are saving a checkpoint.
        heeded = signal.signal(signal.SIGINT, signal.SIG_IGN) if self.cluster == "local" else None
        try:
            jobs.extend(submit(self, *arguments))
        except (FailedJobError, FailedSubmissionError) as error:
            raise HarnessError(f"Nothing was submitted: sbatch says: {one_line(str(error), LONGEST)}") from error
        finally:
            if heeded is not None:
                signal.signal(signal.SIGINT, heeded)
        _wait(jobs, ended)
        return jobs

    submitit.AutoExecutor.map_array = submit_and_wait  # type: ignore[method-assign, assignment]
    SlurmJob.watcher = QueueWatcher()
    try:
        yield jobs
    finally:
        submitit.AutoExecutor.map_array, SlurmJob.watcher = submit, watcher  # type: ignore[method-assign]


def _wait(jobs: Sequence[Job], ended: Callable[[int, Any], None]) -> None:
    waiting = dict(enumerate(jobs))
    while waiting:
        for place, job in list(waiting.items()):
            if job.done():
                del waiting[place]
                ended(place, result_of(job))
        time.sleep(POLL_S)


def result_of(job: Job) -> Any:
    """Wait for a job; what it returned, or in its place an error that says what became of it."""
    try:
        return job.result()
    except FailedJobError as error:
        last = str(error).strip(" -\n").splitlines()[-1]
        return HarnessError(f"job {job.job_id} failed: {brief(last)}; its log: {job.paths.stderr}")
    except UncompletedJobError:
        return HarnessError(f"job {job.job_id} ended without a result ({job.state}); its log: {job.paths.stderr}")
    except Exception as error:
        return error


def stop(jobs: Sequence[Job]) -> str:
    """Stop the jobs of submitit_local as Ctrl-C stops a run, with a checkpoint; those of SLURM go on.

    Returns:
        What has become of them, in a sentence; empty where nothing is left.
    """
    there = [job for job in jobs if not isinstance(job, LocalJob)]
    here = [job for job in jobs if isinstance(job, LocalJob)]
    for task in [pid for job in here if job._process for pid in _children(job._process.pid)]:
        with suppress(ProcessLookupError):
            # One that still ignores it has not begun.
            os.kill(task, signal.SIGKILL if _ignores_ctrl_c(task) else signal.SIGINT)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and not all(job.done() for job in here):
        time.sleep(0.2)
    if there:
        ids = " ".join(sorted({str(job.job_id).partition("_")[0] for job in there}))
        return f"SLURM job {ids} goes on without this command; `scancel {ids}` ends it."
    return ""


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in (Path("/proc") / f"{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _ignores_ctrl_c(pid: int) -> bool:
    try:
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    except OSError:
        return False
    ignored = next((int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")), 0)
    return bool(ignored >> (signal.SIGINT - 1) & 1)
