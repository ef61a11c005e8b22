"""A study's report as the tracker shows it: every CSV table and every PNG figure of the report folder."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from src.comparison.choose import choose
from src.comparison.table import StudyTable
from src.records.paths import StudyPaths
from src.reporting.tables import to_markdown
from src.tracking import Board, DataTable, StudySummary

# W&B shows so many rows of a table, and cuts the others off without a word.
MOST_ROWS = 10_000
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def summarise(paths: StudyPaths, tables: StudyTable, sentences: list[str]) -> StudySummary:
    """What `src.tracking.mirror_study` takes, read from the report as it was written last.

    Raises:
        OSError, ValueError, csv.Error: a file of the report cannot be read.
    """
    return StudySummary(
        study=paths.name,
        folder=paths.root,
        tables={path.stem: read_table(path) for path in sorted(paths.report.glob("*.csv"))},
        figures=_figures(paths),
        sentences=tuple(sentences),
        scalars=_scalars(tables),
    )


def make_board(paths: StudyPaths, tables: StudyTable, sentences: list[str]) -> Board:
    """What `src.tracking.publish_board` takes."""
    return Board(
        study=paths.name,
        folder=paths.root,
        draft=paths.report / "wandb" / "dashboard.json",
        metrics=tuple(dict.fromkeys(table.metric for table in tables.tables)),
        sentences=tuple(sentences),
        table=to_markdown(tables, ()),
        figures=tuple(_figures(paths)),
        methods=any(table.several_methods for table in tables.tables),
    )


def read_table(path: Path) -> DataTable:
    """A CSV file with a header; numbers become numbers, empty cells None."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    if not rows:
        return DataTable((), ())
    return DataTable(rows[0], [[_value(text) for text in row] for row in rows[1 : MOST_ROWS + 1]])


def _value(text: str) -> str | float | int | None:
    if WHOLE.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) else text or None


def _figures(paths: StudyPaths) -> dict[str, Path]:
    return {path.stem: path for path in sorted(paths.figures.glob("*.png"))}


def _scalars(study: StudyTable) -> dict[str, float | int | None]:
    """Numbers of cells and, for the first table of each metric, the scores of its best cell."""
    values: dict[str, float | int | None] = {
        "cells": sum(len(table.ranked) for table in study.tables),
        "runs_not_ranked": sum(len(table.problems) for table in study.tables),
    }
    for table in study.tables:
        best = next(iter(choose(table)), None)
        if best is not None and f"best_validation/{table.metric}" not in values:
            values[f"best_validation/{table.metric}"] = best.cell.validation
            values[f"test/{table.metric}"] = best.cell.test
    return values
