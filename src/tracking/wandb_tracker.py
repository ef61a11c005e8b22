"""One W&B run for each cell, also for cells that train side by side in one process.

Every run has a thread of its own (wandb_run.py): a server that is slow, refuses or is gone costs the training nothing.
What waiting is left is in `WandbTracker.close`, and is bounded.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import wandb

from src.spec import TrackingSpec
from src.tracking.base import NullTracker, RunInfo, Tracker
from src.tracking.sweep_agent import AgentRun
from src.tracking.trouble import LOG, cause, say_once
from src.tracking.wandb_run import STEP, WandbRun
from src.tracking.wandb_service import OFFLINE, QUIET, SHARED, connect, connect_anew, resolve_mode, say_upload_trouble

LONGEST_TAG = 64
TRAIN = "train"
# wandb keeps to its own time-outs within a second or so; what takes longer than this is stuck and is left behind.
GRACE_S = 5.0


def wandb_tracker(spec: TrackingSpec) -> Tracker:
    """A tracker in the mode that the spec, the environment and the presence of a key give.

    Raises:
        Exception: wandb cannot be set up.
    """
    mode = resolve_mode(spec.mode, connect())
    later = "; send the runs later: `wandb sync <run folder>/wandb/offline-run-*`" if mode == "offline" else ""
    LOG.info("W&B is %s, project %s%s", mode, spec.project, later)
    return NullTracker() if mode == "disabled" else WandbTracker(spec, mode)


class WandbTracker:
    """Starts W&B runs side by side in this process.

    Args:
        spec: project, entity and time-outs.
        mode: online becomes offline, for the rest of the process, when the server fails to start a run.
    """

    def __init__(self, spec: TrackingSpec, mode: Literal["online", "offline"]) -> None:
        self.spec, self.mode = spec, mode
        self._runs: list[WandbRun] = []

    @property
    def _longest_wait_s(self) -> float:
        return self.spec.init_timeout_s + self.spec.finish_timeout_s + GRACE_S

    @property
    def under_agent(self) -> bool:
        """Whether `wandb agent` started this process."""
        return SHARED.agent is not None

    def start(self, run: RunInfo) -> WandbRun:
        """Begin a W&B run, or continue the one of `run.previous_id`; under `wandb agent` the first is the agent's."""
        agent = SHARED.claim_agent_run() if run.job_type == TRAIN else None
        tracking_id = agent.run_id if agent else run.previous_id or secrets.token_hex(4)
        former = [other.thread for other in self._runs if other.tracking_id == tracking_id]
        start = partial(self._start, run, tracking_id, agent, former)
        tracked = WandbRun(tracking_id, start, whole=run.earlier is not None)
        for metrics, step in run.earlier or ():
            tracked.log(metrics, step)
        self._runs = [*(earlier for earlier in self._runs if earlier.thread.is_alive()), tracked]
        return tracked

    def close(self) -> None:
        """Finish what is open and wait, at most for both time-outs and a little, until all is stored."""
        deadline = time.monotonic() + self._longest_wait_s
        for run in self._runs:
            run.finish("interrupted", {})
        for run in self._runs:
            run.thread.join(max(0.0, deadline - time.monotonic()))
            if run.thread.is_alive():
                say_upload_trouble("it does not answer")
        self._runs = []

    def _start(
        self, run: RunInfo, tracking_id: str, agent: AgentRun | None, former: Sequence[threading.Thread]
    ) -> wandb.Run:
        for thread in former:  # an attempt of this process that is still at its end
            thread.join(self._longest_wait_s)
        with SHARED.starting:
            if self.mode == "online" and SHARED.reachable:
                earlier = _online_parts(run)
                try:
                    return self._init(run, tracking_id, agent, "online")
                except Exception as error:
                    SHARED.reachable = False
                    say_once("start", f"W&B cannot be reached or refuses ({cause(error)}): {OFFLINE}")
                    # Nothing is in it, and one file without a run makes `wandb sync` give up on all that it is given.
                    for part in _online_parts(run) - earlier:
                        shutil.rmtree(part, ignore_errors=True)
                    connect_anew()
            return self._init(run, tracking_id, agent, "offline")

    def _init(
        self, run: RunInfo, tracking_id: str, agent: AgentRun | None, mode: Literal["online", "offline"]
    ) -> wandb.Run:
        folder = run.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        started = wandb.init(
            # A sweep has its project and entity, which its agent has put into the environment.
            project=None if agent else self.spec.project,
            entity=None if agent else self.spec.entity,
            id=tracking_id,
            name=run.run_id,
            group=run.study,
            job_type=run.job_type,
            tags=[tag[:LONGEST_TAG] for tag in run.tags if tag],
            config={**run.config, **(agent.parameters if agent else {})},
            dir=folder,
            mode=mode,
            reinit="create_new",
            resume="allow" if run.previous_id == tracking_id and _goes_on(run, mode) else None,
            settings=self._settings(run.run_id, agent),
        )
        # W&B numbers the rows itself: rows repeated after a resume are then appended, not dropped as steps gone by.
        started.define_metric(STEP)
        started.define_metric("*", step_metric=STEP)
        return started

    def _settings(self, run_id: str, agent: AgentRun | None) -> wandb.Settings:
        return wandb.Settings(
            **QUIET,
            init_timeout=self.spec.init_timeout_s,
            finish_timeout=self.spec.finish_timeout_s,
            sweep_id=agent.sweep_id if agent else None,
            stop_fn=partial(LOG.warning, "W&B was asked to stop %s; it goes on: stop the study with Ctrl-C.", run_id),
        )


def _goes_on(run: RunInfo, mode: Literal["online", "offline"]) -> bool:
    """Whether W&B is to add to the rows that it has of the run, and not to replace them from the first one on."""
    if run.earlier is None:
        return True
    # What is recorded offline holds all rows, so `wandb sync` has nothing to add them to.
    return bool(run.earlier) and mode == "online"


def _online_parts(run: RunInfo) -> set[Path]:
    return set(run.folder.resolve().glob("wandb/run-*"))
