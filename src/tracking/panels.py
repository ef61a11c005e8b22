"""The W&B workspace and report of a study, built with wandb-workspaces.

Names that W&B cannot check are the ones that our runs log: config keys from src/experiment/session.py, summary keys
from src/experiment/outcome.py, metrics from src/experiment/observer.py; a test holds them against a run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TypeAlias

from src.spec import LOWER_IS_BETTER
from src.tracking.board import Board
from src.tracking.wandb_run import STEP

with warnings.catch_warnings():
    # Its classes are declared in the style of an older pydantic.
    warnings.simplefilter("ignore", DeprecationWarning)
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr
    from wandb_workspaces.reports.v2.interface import BlockTypes, PanelTypes

TARGETS, RANK, RATE = wr.Config("lora.targets"), wr.Config("rank"), wr.Config("optim.lr")
METHOD = wr.Config("method_name")
PARAMETERS, SEED = wr.Config("adapter_parameters"), wr.Config("seed")
# All runs of a study at once: W&B's default is the newest 10.
MOST_RUNS = 200
Panels: TypeAlias = list[PanelTypes]


def build_workspace(board: Board, project: str, entity: str) -> ws.Workspace:
    """The runs of the study, by sections of panels; its training runs only."""
    first = board.metrics[0]
    return ws.Workspace(
        entity=entity,
        project=project,
        # The library takes + and =, which a study's name may have, for emojis.
        name=re.sub(r"[^\w.-]", " ", board.study),
        sections=[
            ws.Section(name=title, panels=panels, is_open=True, layout_settings=ws.SectionLayoutSettings(2, 2))
            for title, panels in sections(board.metrics, methods=board.methods)
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=runs_of(board.study, "train"),
            order=[expr.Ordering(expr.Summary(best(first)), ascending=first in LOWER_IS_BETTER)],
            pinned_columns=["config:lora.value.targets", "config:rank.value", f"summary:{best(first)}"],
        ),
    )


def build_report(board: Board, project: str, entity: str) -> wr.Report:
    """Answer, table, panels and figures.

    Raises:
        Exception: entity and project are given, and W&B does not know them.
    """
    train = wr.Runset(entity, project if entity else "", "training runs", filters=runs_of(board.study, "train"))
    shown = wr.Runset(entity, project if entity else "", "summary", filters=runs_of(board.study, "summary"))
    blocks: list[BlockTypes] = [wr.H2("Answer"), *(wr.P(sentence) for sentence in board.sentences)]
    blocks += [wr.MarkdownBlock(board.table)] if board.table else []
    for title, panels in sections(board.metrics, methods=board.methods):
        blocks += [wr.H2(title), wr.PanelGrid(runsets=[train], panels=panels)]
    if board.figures:
        keys = [f"figures/{name}" for name in board.figures]
        media = wr.MediaBrowser(title="Figures", num_columns=2, media_keys=keys, layout=_whole())
        blocks += [wr.H2("Figures"), wr.PanelGrid(runsets=[shown], panels=[media])]
    return wr.Report(
        project=project,
        entity=entity,
        title=f"{board.study}: which matrices to adapt, and what rank suffices"[:128],
        description="Which weight matrices to adapt with LoRA, and what rank suffices.",
        blocks=blocks,
        width="fluid",
    )


def sections(metrics: Sequence[str], *, methods: bool = False) -> list[tuple[str, Panels]]:
    """Titles and panels; panels that show a score are there once for each metric."""
    by_method = [panel for metric in metrics for panel in _methods(metric)]
    loss = _curve("training loss by method", "train/loss", METHOD)
    return [
        *([("Scores by method", [*by_method, loss])] if methods else []),
        ("Scores by rank and targets", [panel for metric in metrics for panel in _scores(metric)]),
        ("All settings side by side", [_coordinates(metric) for metric in metrics]),
        ("Learning rate", [panel for metric in metrics for panel in _learning_rate(metric)]),
        ("Learning curves", [*(panel for metric in metrics for panel in _curves(metric)), *_losses()]),
    ]


def runs_of(study: str, job_type: str) -> str:
    """Filter for the runs of one job type in the study's group."""
    # Escaped, because the library doubles every = of the text, also one inside a name.
    name = "".join(sign if sign.isalnum() or sign in "-_." else f"\\u{ord(sign):04x}" for sign in study)
    return f"Metric('Group') = '{name}' and Metric('JobType') = '{job_type}'"


def best(metric: str) -> str:
    """Summary key of the validation score of a run's best epoch."""
    return f"best_validation/{metric}"


def _scores(metric: str) -> Panels:
    validation, test = wr.SummaryMetric(best(metric)), wr.SummaryMetric(f"test/{metric}")
    return [
        _bars(f"validation {metric} by targets", best(metric), TARGETS),
        _bars(f"validation {metric} by rank", best(metric), RANK),
        _bars(f"test {metric} by targets", f"test/{metric}", TARGETS),
        _bars(f"test {metric} by rank", f"test/{metric}", RANK),
        wr.ScatterPlot(title=f"validation {metric} against rank", x=RANK, y=validation, log_x=True, layout=_half()),
        wr.ScatterPlot(title=f"test {metric} against rank", x=RANK, y=test, log_x=True, layout=_half()),
        wr.ScatterPlot(
            title=f"validation {metric} against adapter parameters",
            x=PARAMETERS,
            y=validation,
            log_x=True,
            layout=_half(),
        ),
        wr.ScatterPlot(
            title=f"test {metric} against validation {metric}", x=validation, y=test, regression=True, layout=_half()
        ),
    ]


def _methods(metric: str) -> Panels:
    return [
        _bars(f"validation {metric} by method", best(metric), METHOD),
        _bars(f"test {metric} by method", f"test/{metric}", METHOD),
        _curve(f"validation {metric} by method", f"validation/{metric}", METHOD),
    ]


def _bars(title: str, metric: str, groupby: wr.Config) -> wr.BarPlot:
    return wr.BarPlot(
        title=f"{title}, mean and range over runs",
        metrics=[metric],
        groupby=groupby,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MOST_RUNS,
        layout=_half(),
    )


def _coordinates(metric: str) -> wr.ParallelCoordinatesPlot:
    column = wr.ParallelCoordinatesPlotColumn
    columns = [
        column(TARGETS, "targets"),
        column(RANK, "rank", log=True),
        column(PARAMETERS, "adapter parameters", log=True),
        column(RATE, "learning rate", log=True),
        column(SEED, "seed"),
        column(wr.SummaryMetric(best(metric)), f"validation {metric}"),
        column(wr.SummaryMetric(f"test/{metric}"), f"test {metric}"),
    ]
    return wr.ParallelCoordinatesPlot(title=f"settings and {metric}", columns=columns, layout=_whole())


def _learning_rate(metric: str) -> Panels:
    score = wr.SummaryMetric(best(metric))
    return [
        wr.ScatterPlot(title=f"validation {metric} against learning rate", x=RATE, y=score, log_x=True, layout=_half()),
        wr.ScatterPlot(
            title=f"validation {metric} by learning rate and rank",
            x=RATE,
            y=RANK,
            z=score,
            log_x=True,
            log_y=True,
            layout=_half(),
        ),
    ]


def _curves(metric: str) -> Panels:
    return [
        _curve(f"validation {metric} by targets", f"validation/{metric}", TARGETS),
        _curve(f"validation {metric} by rank", f"validation/{metric}", RANK),
    ]


def _losses() -> Panels:
    return [
        _curve("training loss by targets", "train/loss", TARGETS),
        _curve("training loss by rank", "train/loss", RANK),
    ]


def _curve(title: str, metric: str, groupby: wr.Config) -> wr.LinePlot:
    return wr.LinePlot(
        title=title,
        x=STEP,
        y=[metric],
        title_x="optimiser steps",
        groupby=groupby,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MOST_RUNS,
        layout=_half(),
    )


def _half() -> wr.Layout:
    """Half of the width; a new one for each panel, because a grid moves the layouts that it is given."""
    return wr.Layout(w=12, h=8)


def _whole() -> wr.Layout:
    return wr.Layout(w=24, h=10)
