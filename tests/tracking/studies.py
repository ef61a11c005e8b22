"""Studies of a tiny model whose W&B is a stand-in server, and what of them has arrived there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from src.experiment import work
from src.experiment.study import StudyOutcome, run_study
from src.records import RunPaths, read_rows
from src.spec import RunSpec, TrackingSpec
from src.tracking import wandb_service
from src.tracking.wandb_run import WandbRun
from src.tracking.wandb_tracker import WandbTracker
from tests.experiment.workplace import Workplace
from tests.tracking.stand_in import KEY, StandIn, StoredRun

Rows = list[dict[str, Any]]


def run_tracked(
    place: Workplace, specs: Sequence[RunSpec], output: Path, tracking: TrackingSpec, **settings: Any
) -> tuple[StudyOutcome, float]:
    """Run a study and leave W&B as at the end of a process.

    Gives the seconds that W&B takes: those in calls of ours up to the last record, and all from there to the end. The
    rest is training, whose speed says something of the machine's load.
    """
    with calls() as taken:
        outcome = run_study(specs, place.settings(output, tracking=tracking, **settings))
    wandb_service.leave()
    last = max(path.stat().st_mtime for path in output.glob("*/runs/*/record.json"))
    before = sum(seconds for began, seconds in taken if began < last)
    return outcome, before + time.time() - last


@contextmanager
def calls() -> Iterator[list[tuple[float, float]]]:
    """When each call of tracking that this thread makes began (Unix time), and how long it took."""
    taken: list[tuple[float, float]] = []
    main = threading.get_ident()

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **named: Any) -> Any:
            began = time.time()
            try:
                return call(*arguments, **named)
            finally:
                taken.extend([(began, time.time() - began)] if threading.get_ident() == main else [])

        return measured

    places = [(work, "make_tracker"), (WandbTracker, "start"), (WandbRun, "log"), (WandbRun, "finish")]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in places:
            patch.setattr(owner, name, timed(getattr(owner, name)))
        yield taken


def sync(server: StandIn, folder: Path) -> str:
    """The command `wandb sync` for everything below a folder; gives what it prints."""
    found = [str(path) for path in sorted(folder.rglob("*run-*")) if path.is_dir() and path.parent.name == "wandb"]
    environment = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    command = [sys.executable, "-m", "wandb", "sync", "--no-skip-online", "--no-skip-synced", *found]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def tracking_id(run: RunPaths) -> str:
    """W&B's id of a run."""
    return str(json.loads(run.tracking.read_text())["id"])


def own_rows(run: RunPaths) -> Rows:
    """What the run's own log has, as W&B is sent it."""
    return [
        _comparable({name: value for name, value in row.items() if value is not None}) for row in read_rows(run.metrics)
    ]


def sent_rows(stored: StoredRun) -> Rows:
    """What the server has, without what W&B adds."""
    return [_comparable({name: value for name, value in row.items() if name[0] != "_"}) for row in stored.history]


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Without the rate: a step that is taken again after a resume is the same step, and takes another time."""
    return {name: value for name, value in row.items() if name != "train/tokens_per_s"}
