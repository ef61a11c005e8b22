"""Mirrors runs to Weights & Biases, or nowhere. wandb is imported in this package only, and only when it is used."""

from __future__ import annotations

from src.spec import TrackingSpec
from src.tracking.base import NullRunTracker, NullTracker, RunInfo, RunTracker, Tracker
from src.tracking.trouble import cause, say_once

__all__ = ["NullRunTracker", "NullTracker", "RunInfo", "RunTracker", "Tracker", "make_tracker"]


def make_tracker(spec: TrackingSpec) -> Tracker:
    """The tracker that a config asks for.

    Never raises: where wandb cannot be used at all, a warning is logged once and nothing is tracked.
    """
    if spec.backend == "none":
        return NullTracker()
    try:
        from src.tracking.wandb_tracker import wandb_tracker  # noqa: PLC0415 - a run without wandb never loads it

        return wandb_tracker(spec)
    except Exception as error:
        say_once("setup", f"W&B cannot be used ({cause(error)}); the runs' own records are complete.")
        return NullTracker()
