"""What a study came to, as plain data, for the one tracked run that shows it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Value = str | float | int | None
ID_FILE = "tracking.json"


@dataclass(frozen=True)
class DataTable:
    """A table: names of the columns, and rows of values in their order; None where a value is missing."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class StudySummary:
    """Tables, figures and answer of a study.

    Attributes:
        folder: the study's; its tracking.json keeps the run's id, so that a later summary continues the same run.
        tables, figures: by name; figures are PNG files.
        sentences: the answer.
        scalars: numbers worth a column in the list of runs; those that are None are left out.
    """

    study: str
    folder: Path
    tables: Mapping[str, DataTable] = field(default_factory=dict)
    figures: Mapping[str, Path] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    scalars: Mapping[str, float | int | None] = field(default_factory=dict)


def read_ids(folder: Path) -> dict[str, str]:
    """Ids that W&B gave to what shows a study; none before the first time."""
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        values = json.loads((folder / ID_FILE).read_text())
        return {name: value for name, value in values.items() if isinstance(value, str)}
    return {}


def keep_ids(folder: Path, **ids: str) -> None:
    """Add to the ids that are kept already.

    Raises:
        OSError: the system refused to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{ID_FILE}.{os.getpid()}"
    draft.write_text(json.dumps({**read_ids(folder), **ids}, indent=1) + "\n")
    draft.replace(folder / ID_FILE)
