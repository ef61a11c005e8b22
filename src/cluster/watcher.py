"""For Hydra's own launcher submitit_slurm, which waits for ever for a killed job where SLURM keeps no accounts."""

from __future__ import annotations

import time

from src.cluster.queue import read_queue

# Seconds between two questions to squeue.
ASK_S = 20


def watch_by_queue() -> None:
    """Let submitit ask squeue, which always works, in place of sacct; a job that it no longer has is over.

    submitit then raises UncompletedJobError for a job without a result.
    """
    # It takes a quarter of a second, which launchers that do without it need not spend.
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob  # noqa: PLC0415

    class QueueWatcher(SlurmInfoWatcher):
        def update(self) -> None:
            waiting = self._registered - self._finished
            self._last_status_check = time.time()
            queue = read_queue({job.partition("_")[0] for job in waiting})
            if queue is None:
                return
            for job in waiting:
                entry = queue.get(job)
                self._info_dict[job] = {"State": "gone from the queue" if entry is None else entry.state}
                self._finished |= {job} if entry is None else set()

    SlurmJob.watcher = QueueWatcher(delay_s=ASK_S)
