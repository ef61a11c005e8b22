"""What the training loop knows of tracking: two small protocols, and null objects so that it never asks `if`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Metrics = Mapping[str, float | int | None]
# Metrics, and the optimiser step after which they were logged.
LoggedRow = tuple[Metrics, int]


@dataclass(frozen=True)
class RunInfo:
    """What a tracker is told of a run when it starts.

    Attributes:
        run_id: name of the run and of its folder.
        study: the runs of one study form one group.
        config: the fully resolved config, nested; sent as it is, so it must hold no secret.
        folder: the run's own folder; a tracker's files go below it.
        previous_id: tracking id of an earlier attempt at the same run, which keeps it; None for a new run.
        earlier: rows that earlier attempts logged, oldest first, where this one goes on behind them: the mirror gets
            those that it lacks, and none twice. Empty where training starts anew: what the mirror has is replaced. None
            where nothing is known: what is logged is added to it.
    """

    run_id: str
    study: str
    config: dict[str, Any]
    tags: tuple[str, ...]
    job_type: str
    folder: Path
    previous_id: str | None = None
    earlier: Sequence[LoggedRow] | None = None


class RunTracker(Protocol):
    """Mirror of one run. No method raises or waits: tracking must never hold up or fail a training."""

    @property
    def tracking_id(self) -> str | None:
        """What to pass as `RunInfo.previous_id` to continue this run; None if nothing is tracked."""

    def log(self, metrics: Metrics, step: int) -> None:
        """Record metrics at an optimiser step; those that are None are left out."""

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """End the run with a status of RunRecord; what is still on its way is awaited by `Tracker.close`."""


class Tracker(Protocol):
    """Starts one RunTracker for each cell; several may be open at the same time."""

    def start(self, run: RunInfo) -> RunTracker:
        """Begin, or continue, the mirror of a run."""

    def close(self) -> None:
        """Wait, for a bounded time, until everything that was logged is stored."""


class NullRunTracker:
    """Tracks nothing."""

    tracking_id: str | None = None

    def log(self, metrics: Metrics, step: int) -> None:
        """Do nothing."""

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """Do nothing."""


class NullTracker:
    """Tracks nothing."""

    def start(self, run: RunInfo) -> NullRunTracker:
        """Give a tracker that does nothing."""
        return NullRunTracker()

    def close(self) -> None:
        """Do nothing."""
