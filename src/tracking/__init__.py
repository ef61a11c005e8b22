"""Mirrors runs to Weights & Biases, or nowhere. wandb is imported in this package only, and only when it is used."""

from __future__ import annotations

import importlib.util

from src.errors import HarnessError
from src.spec import TrackingSpec
from src.tracking.base import LoggedRow, NullRunTracker, NullTracker, RunInfo, RunTracker, Tracker
from src.tracking.board import Board, Published
from src.tracking.summary import DataTable, StudySummary
from src.tracking.trouble import cause, say_once

__all__ = [
    "Board",
    "DataTable",
    "LoggedRow",
    "NullRunTracker",
    "NullTracker",
    "Published",
    "RunInfo",
    "RunTracker",
    "StudySummary",
    "Tracker",
    "make_tracker",
    "mirror_study",
    "publish_board",
    "require_dashboard",
]


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


def mirror_study(spec: TrackingSpec, summary: StudySummary) -> str | None:
    """Show a study's tables, figures and answer in one run of its own, the same one at every call.

    The run has the job type ``summary`` and stands in the study's group. Never raises, and waits no longer than both
    time-outs of the spec and a little: the files on disk are complete without it.

    Returns:
        The tracking backend's id of the run; None where nothing is tracked.
    """
    if spec.backend == "none":
        return None
    try:
        from src.tracking.wandb_summary import send_summary  # noqa: PLC0415 - as above

        return send_summary(spec, summary)
    except Exception as error:
        say_once("summary", f"W&B does not show the study ({cause(error)}); its report on disk is complete.")
        return None


def require_dashboard() -> None:
    """Raises:
    HarnessError: the package wandb-workspaces is missing.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise HarnessError(
            "The dashboard needs the package wandb-workspaces, which is not installed; this command installs it: "
            'python -m pip install -c constraints.txt -e ".[dashboard]"'
        )


def publish_board(spec: TrackingSpec, board: Board) -> Published:
    """Send a study's W&B workspace and report, in place of what was sent before, and write down what is sent.

    Without a key, or with W&B offline, they are only written down.

    Raises:
        HarnessError: the package wandb-workspaces is missing, or W&B does not take what it gets.
    """
    require_dashboard()
    from src.tracking.wandb_dashboard import publish  # noqa: PLC0415 - as above

    return publish(spec, board)
