"""A benchmark's result on the terminal, as Markdown and as JSON. Needs no torch."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from src.benchmarks.found import Found, Goal, Table
from src.benchmarks.request import Request
from src.records import write_bytes_atomic, write_json_atomic
from src.spec import to_dict

WIDTH = 160


def show(found: Found) -> None:
    """Print checks, tables, notes and goals."""
    # Into a file or a pipe nothing has to be cut off.
    width = None if sys.stdout.isatty() else WIDTH
    console = Console(highlight=False, markup=False, width=width)
    for check in found.checks:
        console.print(f"checked: {check}")
    for table in found.tables:
        console.print(_rich(table))
    for note in found.notes:
        console.print(note)
    for goal in found.goals:
        console.print(f"- {goal.sentence}")


def write(found: Found, request: Request) -> tuple[Path, Path]:
    """Write ``<output_dir>/bench/<what>.json`` and, for docs/performance.md, ``<what>.md``.

    Raises:
        WriteError: the system refused to write.
    """
    folder = Path(request.settings.output_dir) / "bench"
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    json_file, markdown_file = folder / f"{request.what}.json", folder / f"{request.what}.md"
    write_json_atomic(json_file, as_json(found, request, date))
    write_bytes_atomic(markdown_file, as_markdown(found, request, date).encode())
    return json_file, markdown_file


def as_json(found: Found, request: Request, date: str) -> dict[str, Any]:
    """Everything, with plain values."""
    return {
        "what": request.what,
        "date": date,
        "command": request.command,
        "options": dict(request.options),
        "spec": to_dict(request.spec),
        "env": dict(found.env),
        "checks": list(found.checks),
        "tables": [dataclasses.asdict(table) for table in found.tables],
        "notes": list(found.notes),
        "goals": [_goal(goal) for goal in found.goals],
        "raw": dict(found.raw),
    }


def as_markdown(found: Found, request: Request, date: str) -> str:
    """The tables with command, date and machine."""
    parts = [f"`{request.command}`", f"{date[:10]}, {machine(found.env)}."]
    if found.checks:
        parts.append(f"Checked first: {'; '.join(found.checks)}.")
    parts += [f"{table.title}\n\n{_markdown(table)}" for table in found.tables]
    parts += found.notes
    if found.goals:
        parts.append("\n".join(f"- {goal.sentence}" for goal in found.goals))
    return "\n\n".join(parts) + "\n"


def machine(env: Mapping[str, Any]) -> str:
    """``AMD EPYC, 2 threads, torch 2.13.0, transformers 5.23.0``."""
    names = [f"{name} {version}" for name, version in env.get("versions", {}).items() if name != "python"]
    threads = [f"{env['threads']} threads"] if "threads" in env else []
    return ", ".join([str(env.get("device_name", "unknown machine")), *threads, *names])


def _goal(goal: Goal) -> dict[str, Any]:
    return {**dataclasses.asdict(goal), "met": goal.met, "sentence": goal.sentence}


def _rich(table: Table) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=table.title, title_justify="left")
    for number, name in enumerate(table.columns):
        shown.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    return shown


def _markdown(table: Table) -> str:
    rule = ["---", *("---:" for _ in table.columns[1:])]
    lines = [table.columns, rule, *table.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
