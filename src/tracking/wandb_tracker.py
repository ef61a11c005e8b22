"""One W&B run for each cell, each served by a thread of its own so that training never waits for W&B.

A run's thread starts it, sends its rows and finishes it; the training only puts calls into a queue. So a server that
is slow, refuses or is gone costs the training nothing; the waiting that is left is in `WandbTracker.close`.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import wandb

from src.spec import TrackingSpec
from src.tracking.base import Metrics, NullTracker, RunInfo, Tracker
from src.tracking.trouble import LOG, say_once
from src.tracking.wandb_session import QUIET, SESSION, SYNC_LATER, connect, say_upload_trouble

STEP = "step"
LONGEST_TAG = 64
# wandb keeps to its own time-outs within a second or so; beyond this something is stuck and is left behind.
GRACE_S = 5.0


def wandb_tracker(spec: TrackingSpec) -> Tracker:
    """A tracker in the mode that the spec, the environment and the presence of a key give.

    Raises:
        Exception: wandb cannot be set up.
    """
    mode = connect(spec)
    LOG.info("W&B is %s, project %s", mode, spec.project)
    return NullTracker() if mode == "disabled" else WandbTracker(spec, mode)


class WandbTracker:
    """Starts W&B runs side by side in this process.

    Args:
        spec: project, entity and time-outs.
        mode: online falls back to offline once the server turns out to be unreachable.
    """

    def __init__(self, spec: TrackingSpec, mode: Literal["online", "offline"]) -> None:
        self.spec, self.mode = spec, mode
        self._open: list[WandbRun] = []

    def start(self, run: RunInfo) -> WandbRun:
        """Begin a W&B run, or continue the one of `run.previous_id`."""
        tracking_id = run.previous_id or secrets.token_hex(4)
        tracked = WandbRun(tracking_id, partial(self._start, run, tracking_id))
        self._open = [*(earlier for earlier in self._open if earlier.is_alive()), tracked]
        return tracked

    def close(self) -> None:
        """Finish what is open and wait, at most for both time-outs and a little, until all is stored."""
        deadline = time.monotonic() + self.spec.init_timeout_s + self.spec.finish_timeout_s + GRACE_S
        for run in self._open:
            run.finish("interrupted", {})
        for run in self._open:
            run.join(max(0.0, deadline - time.monotonic()))
            if run.is_alive():
                say_upload_trouble("it does not answer")
        self._open = []

    def _start(self, run: RunInfo, tracking_id: str) -> wandb.Run:
        with SESSION.starting:
            if self.mode == "online" and SESSION.reachable:
                try:
                    return self._init(run, tracking_id, "online")
                except Exception as error:
                    SESSION.reachable = False
                    cause = " ".join(str(error).split())
                    say_once(
                        "start", f"W&B cannot be reached or refuses ({cause}): runs are recorded offline; {SYNC_LATER}."
                    )
            return self._init(run, tracking_id, "offline")

    def _init(self, run: RunInfo, tracking_id: str, mode: Literal["online", "offline"]) -> wandb.Run:
        folder = run.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        started = wandb.init(
            project=self.spec.project,
            entity=self.spec.entity,
            id=tracking_id,
            name=run.run_id,
            group=run.study,
            job_type=run.job_type,
            tags=[tag[:LONGEST_TAG] for tag in run.tags if tag],
            config=run.config,
            dir=folder,
            mode=mode,
            reinit="create_new",
            # Also offline: `wandb sync` then appends the second part instead of counting rows from 0 again.
            resume="allow" if run.previous_id else None,
            settings=self._settings(run.run_id),
        )
        # W&B counts rows itself, so that rows repeated after a resume are appended, not rejected as steps gone by.
        started.define_metric(STEP)
        started.define_metric("*", step_metric=STEP)
        return started

    def _settings(self, run_id: str) -> wandb.Settings:
        return wandb.Settings(
            **QUIET,
            init_timeout=self.spec.init_timeout_s,
            finish_timeout=self.spec.finish_timeout_s,
            finish_timeout_raises=True,
            stop_fn=partial(LOG.warning, "W&B was asked to stop %s; it goes on: stop the study with Ctrl-C.", run_id),
        )


class WandbRun:
    """A W&B run behind a queue.

    Args:
        tracking_id: W&B's id of the run.
        start: gives the wandb run; called in the run's own thread.
    """

    def __init__(self, tracking_id: str, start: Callable[[], wandb.Run]) -> None:
        self.tracking_id: str | None = tracking_id
        self._calls: queue.SimpleQueue[Callable[[wandb.Run], None] | None] = queue.SimpleQueue()
        self._finished = False
        # A daemon, so that a thread stuck in wandb cannot keep the process from ending.
        self._thread = threading.Thread(target=self._work, args=(start,), name=f"wandb-{tracking_id}", daemon=True)
        self._thread.start()
        self.join, self.is_alive = self._thread.join, self._thread.is_alive

    def log(self, metrics: Metrics, step: int) -> None:
        """Queue one row; the step is one of its columns."""
        row = _present(metrics)
        if row:
            self._calls.put(lambda run: run.log({**row, STEP: step}))

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Queue the summary and the end; only the first call counts."""
        if self._finished:
            return
        self._finished = True
        final = {**_present(summary), "status": status}
        self._calls.put(lambda run: run.summary.update(final))
        self._calls.put(lambda run: run.finish(exit_code=0 if status == "completed" else 1))
        self._calls.put(None)

    def _work(self, start: Callable[[], wandb.Run]) -> None:
        try:
            run = start()
        except Exception as error:
            say_once("offline", f"W&B cannot record even offline ({error}); the runs' own records are complete.")
            return
        for call in iter(self._calls.get, None):
            _guarded(call, run)


def _guarded(call: Callable[[wandb.Run], None], run: wandb.Run) -> None:
    try:
        call(run)
    except TimeoutError as error:
        SESSION.reachable = False
        say_upload_trouble(error)
    except Exception as error:
        say_once("call", f"W&B failed ({type(error).__name__}: {error}); the runs' own records are complete.")


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
