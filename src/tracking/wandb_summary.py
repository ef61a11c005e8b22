"""The W&B run that shows a study: its tables, figures and answer."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import wandb

from src.spec import TrackingSpec
from src.tracking.base import RunInfo
from src.tracking.summary import DataTable, StudySummary, Value, keep_ids, read_ids
from src.tracking.trouble import LOG
from src.tracking.wandb_run import Call
from src.tracking.wandb_service import SHARED
from src.tracking.wandb_tracker import WandbTracker, wandb_tracker

JOB_TYPE = "summary"


def send_summary(spec: TrackingSpec, summary: StudySummary) -> str | None:
    """Begin or continue the study's summarising run, fill it and finish it; see src.tracking.mirror_study.

    Raises:
        Exception: wandb cannot be set up, or the id cannot be kept.
    """
    tracker = wandb_tracker(spec)
    if not isinstance(tracker, WandbTracker):
        return None
    if SHARED.lost_data:  # whoever has waited for the server once in vain does not do so again
        tracker.mode = "offline"
    if tracker.under_agent:
        LOG.debug("No summary from under `wandb agent`: every one of its runs would send one")
        return None
    previous = read_ids(summary.folder).get("run")
    if previous is not None:
        _forget_earlier(summary.folder, previous)
    run = tracker.start(
        RunInfo(
            run_id=f"{summary.study}-summary",
            study=summary.study,
            config={"study": summary.study},
            tags=(JOB_TYPE,),
            job_type=JOB_TYPE,
            folder=summary.folder,
            previous_id=previous,
        )
    )
    try:
        keep_ids(summary.folder, run=str(run.tracking_id))
        for call in _calls(summary):
            run.call(call)
        run.finish("completed", {**summary.scalars, "answer": " ".join(summary.sentences)})
    finally:
        tracker.close()
    return run.tracking_id


def _forget_earlier(folder: Path, tracking_id: str) -> None:
    """Remove what earlier summaries left for `wandb sync`: sent later, they would replace this one."""
    for earlier in folder.glob(f"wandb/*run-*-{tracking_id}"):
        shutil.rmtree(earlier, ignore_errors=True)


def _calls(summary: StudySummary) -> Iterator[Call]:
    """One call for each thing to show, so that one which W&B refuses costs no other."""
    yield partial(_note, text="\n\n".join(summary.sentences))
    for name, path in summary.figures.items():
        yield partial(_draw, name=f"figures/{name}", path=path)
    for name, table in summary.tables.items():
        if table.columns:
            yield partial(_tabulate, name=f"tables/{name}", table=table)


def _note(run: wandb.Run, text: str) -> None:
    run.notes = text


def _draw(run: wandb.Run, name: str, path: Path) -> None:
    run.log({name: wandb.Image(str(path))})


def _tabulate(run: wandb.Run, name: str, table: DataTable) -> None:
    rows: list[Iterable[Value]] = [list(row) for row in table.rows]
    run.log({name: wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)})
