"""For Hydra's own submitit launchers, whose waiting ends at the first job without a result, or never."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import submitit
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from src.cluster.queue import read_queue

# Seconds between two questions to squeue.
ASK_S = 20


class QueueWatcher(SlurmInfoWatcher):
    """Asks squeue, which always works, in place of sacct, which knows nothing where SLURM keeps no accounts.

    A job that squeue no longer has is over; submitit raises UncompletedJobError for it where there is no result.
    """

    def update(self) -> None:
        """Part of submitit's interface."""
        waiting = self._registered - self._finished
        self._last_status_check = time.time()
        queue = read_queue({job.partition("_")[0] for job in waiting})
        if queue is None:
            return
        for job in waiting:
            entry = queue.get(job)
            self._info_dict[job] = {"State": "gone from the queue" if entry is None else entry.state}
            self._finished |= {job} if entry is None else set()


@contextmanager
def submitted() -> Iterator[list[submitit.Job[Any]]]:
    """The jobs that are submitted within; SLURM's among them are watched by squeue."""
    SlurmJob.watcher = QueueWatcher(delay_s=ASK_S)
    jobs: list[submitit.Job[Any]] = []
    submit = submitit.AutoExecutor.map_array

    def keep(self: submitit.AutoExecutor, *arguments: Any) -> Sequence[submitit.Job[Any]]:
        new = submit(self, *arguments)
        jobs.extend(new)
        return new

    submitit.AutoExecutor.map_array = keep  # type: ignore[method-assign, assignment]
    try:
        yield jobs
    finally:
        submitit.AutoExecutor.map_array = submit  # type: ignore[method-assign]


def result_of(job: submitit.Job[Any]) -> Any:
    """Wait for a job; what it returned, or the exception that stands in its place."""
    try:
        return job.result()
    except Exception as error:
        return error
