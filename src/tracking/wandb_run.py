"""One W&B run behind a queue, so that training never waits for W&B and never sees it fail."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import wandb

from src.tracking.base import Metrics
from src.tracking.trouble import cause, say_once

STEP = "step"
Call = Callable[[wandb.Run], object]


class WandbRun:
    """Starts, feeds and finishes a wandb run in a thread of its own; the caller only queues.

    Args:
        tracking_id: W&B's id of the run.
        start: gives the wandb run; called in the thread.
        whole: whether all rows of the run are logged here, from its first one on. Those that the server has already
            are not sent again, and what earlier attempts have left for `wandb sync` goes when this one has ended.
    """

    def __init__(self, tracking_id: str, start: Callable[[], wandb.Run], *, whole: bool = False) -> None:
        self.tracking_id: str | None = tracking_id
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._finished = False
        self._whole, self._num_rows = whole, 0
        # A daemon, so that a thread stuck in wandb cannot keep the process from ending.
        self.thread = threading.Thread(target=self._work, args=(start,), name=f"wandb-{tracking_id}", daemon=True)
        self.thread.start()

    def log(self, metrics: Metrics, step: int) -> None:
        """Queue one row; the step is one of its columns."""
        row, number = _present(metrics), self._num_rows
        if row:
            self._num_rows += 1
            self._calls.put(lambda run: self._send({**row, STEP: step}, number, run))

    def call(self, call: Call) -> None:
        """Queue anything else that is to be done with the wandb run."""
        self._calls.put(call)

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Queue the summary and the end; only the first call counts."""
        if self._finished:
            return
        self._finished = True
        final = {**_present(summary), "status": status}
        self._calls.put(lambda run: run.summary.update(final))
        self._calls.put(lambda run: run.finish(exit_code=0 if status in {"completed", "eliminated"} else 1))
        if self._whole:
            self._calls.put(_forget_earlier)
        self._calls.put(None)

    def _send(self, row: dict[str, Any], number: int, run: wandb.Run) -> None:
        # W&B counts rows from 0, and a run that is continued starts at the first that the server does not have.
        if not self._whole or number >= run.starting_step:
            run.log(row)

    def _work(self, start: Callable[[], wandb.Run]) -> None:
        try:
            run = start()
        except Exception as error:
            say_once("offline", f"W&B cannot record even offline ({cause(error)}); the runs' own records are complete.")
            return
        for call in iter(self._calls.get, None):
            try:
                call(run)
            except Exception as error:
                say_once("call", f"W&B failed ({cause(error)}); the runs' own records are complete.")


def _forget_earlier(run: wandb.Run) -> None:
    """Remove what earlier attempts recorded offline: sent later, it would be taken for more rows of the run."""
    own = Path(run.sync_dir)
    for earlier in own.parent.glob(f"offline-run-*-{run.id}*"):
        if earlier != own:
            shutil.rmtree(earlier, ignore_errors=True)


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
