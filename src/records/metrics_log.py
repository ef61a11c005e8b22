"""A run's own log of metrics, one JSON object a line: ``step``, then the metrics by name, null where there is none.

Each row goes to the system as soon as it is logged, so a process that is killed loses none, whatever becomes of W&B.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.records.atomic import cannot_write, write_bytes_atomic

Row = dict[str, Any]


def append_row(path: Path, metrics: Mapping[str, float | int | None], step: int) -> None:
    """Add a row at its end.

    Raises:
        WriteError: the system refused to write; the file is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            start, line = stream.tell(), _line({"step": step, **metrics})
            if (written := stream.write(line)) != len(line):
                stream.truncate(start)
                raise OSError(errno.ENOSPC, f"no space left on device after {written} of {len(line)} bytes")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_rows(path: Path) -> list[Row]:
    """All whole rows, oldest first; none where there is no file. What a crash of the machine tore is left out."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    rows = (_row(line) for line in lines)
    return [row for row in rows if row is not None]


def keep_rows(path: Path, step: int) -> None:
    """Drop what was logged after a step, so that training can go on from there and log it again; with 0, everything.

    Raises:
        WriteError: the system refused to write; the file is as it was.
    """
    if not path.exists():
        return
    kept = [row for row in read_rows(path) if row["step"] <= step] if step else []
    write_bytes_atomic(path, b"".join(map(_line, kept)))


def _line(row: Mapping[str, Any]) -> bytes:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    return f"{json.dumps(finite, allow_nan=False)}\n".encode()


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
