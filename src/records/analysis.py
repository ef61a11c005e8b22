"""What an analysis of saved adapters found: tidy tables, one JSON file each, under <study>/analysis/."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import HarnessError
from src.records.atomic import write_json_atomic

SCHEMA_VERSION = 1
Scalar = str | int | float | None


@dataclass(frozen=True)
class AnalysisTable:
    """One table.

    Attributes:
        name: of the file, such as ``subspace``.
        columns: equally long, by name; what is missing is None, never 0 and never NaN.
        about: one sentence on what a row is, with the source (paper and section).
        notes: what the numbers depend on: runs used, precision, seeds of random controls.
    """

    name: str
    columns: Mapping[str, Sequence[Scalar]]
    about: str
    notes: Mapping[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self) -> list[dict[str, Scalar]]:
        """The table row by row."""
        names = list(self.columns)
        return [dict(zip(names, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


def write_analysis(table: AnalysisTable, folder: Path) -> Path:
    """Write ``<folder>/<name>.json`` atomically; NaN and infinities become null.

    Raises:
        WriteError: the system refused to write.
        ValueError: columns of different lengths.
    """
    if len({len(column) for column in table.columns.values()}) > 1:
        raise ValueError(f"the columns of {table.name} differ in length")
    columns = {name: [_plain(value) for value in column] for name, column in table.columns.items()}
    path = folder / f"{table.name}.json"
    value = {"schema_version": SCHEMA_VERSION, "about": table.about, "notes": dict(table.notes), "columns": columns}
    write_json_atomic(path, value)
    return path


def read_analysis(folder: Path) -> dict[str, AnalysisTable]:
    """All tables in a folder by name; none where the folder is missing.

    Raises:
        HarnessError: a file is not such a table.
    """
    if not folder.is_dir():
        return {}
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def _read(path: Path) -> AnalysisTable:
    try:
        value = json.loads(path.read_bytes())
        columns = {str(name): tuple(column) for name, column in value["columns"].items()}
        if value["schema_version"] != SCHEMA_VERSION or len({len(column) for column in columns.values()}) > 1:
            raise ValueError("another schema version, or columns of different lengths")
        return AnalysisTable(path.stem, columns, str(value["about"]), dict(value["notes"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise HarnessError(f"{path} is not an analysis that can be read ({error}); run src.analyze again.") from error


def _plain(value: Scalar) -> Scalar:
    return None if isinstance(value, float) and not math.isfinite(value) else value
