"""One W&B run behind a queue, so that training never waits for W&B and never sees it fail."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
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
    """

    def __init__(self, tracking_id: str, start: Callable[[], wandb.Run]) -> None:
        self.tracking_id: str | None = tracking_id
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._finished = False
        # A daemon, so that a thread stuck in wandb cannot keep the process from ending.
        self.thread = threading.Thread(target=self._work, args=(start,), name=f"wandb-{tracking_id}", daemon=True)
        self.thread.start()

    def log(self, metrics: Metrics, step: int) -> None:
        """Queue one row; the step is one of its columns."""
        row = _present(metrics)
        if row:
            self._calls.put(lambda run: run.log({**row, STEP: step}))

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
        self._calls.put(None)

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


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
