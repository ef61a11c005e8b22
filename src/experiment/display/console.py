"""What the person sees besides progress: log lines in study.log and, at the end, table, answer and paths."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from src.comparison import StudyTable, Table
from src.comparison.table import Column
from src.errors import hide_secrets
from src.experiment.display.progress import NullProgress, Progress, is_interactive, make_progress
from src.records import StudyPaths
from src.records.atomic import cannot_write
from src.records.text import one_line, show

__all__ = ["NullProgress", "Progress", "configure_logging", "make_progress", "print_table"]

MOST_LINES = 20
# Beyond so many cells only the best MOST_LINES are printed.
MOST_CELLS = 50
LONGEST_CAUSE = 160
# Columns that a narrow terminal loses first; report/table.md has them all.
DISPENSABLE = ("time_s", "adapter_parameters", "seeds")
# What is piped into a file or another program is never wrapped or cut.
UNBOUNDED = 10_000
PLAIN_RULES = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what sys.stderr is at the moment, so that lines appear above live progress bars."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    def format(self, record: logging.LogRecord) -> str:
        """The message alone; its traceback is in the log file."""
        told = super().format(record) if os.environ.get("HYDRA_FULL_ERROR") == "1" else record.getMessage()
        return hide_secrets(told)


class _StudyLog(logging.FileHandler):
    """Loses lines on a full disk with one word of warning, where logging would print a traceback for each."""

    warned = False

    def format(self, record: logging.LogRecord) -> str:
        """Messages and tracebacks of libraries may quote an address with its password."""
        return hide_secrets(super().format(record))

    def close(self) -> None:
        with suppress(OSError):  # what could not be written cannot be flushed either
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        if not self.warned:
            self.warned = True
            sys.stderr.write(f"Lines are missing from {self.baseFilename}: {sys.exc_info()[1]}.\n")


def configure_logging(study_log: Path | None) -> None:
    """Send the logger ``src`` to `study_log` with times, and to the console: warnings, or everything in a pipe.

    A second call takes the place of the first. Lines do not reach the root logger, which belongs to others.

    Args:
        study_log: None before the study's bars take over the terminal; everything goes to the console until then.

    Raises:
        WriteError: the log cannot be written.
    """
    logger = logging.getLogger("src")
    for handler in list(logger.handlers):
        if isinstance(handler, _StandardError | _StudyLog):
            logger.removeHandler(handler)
            handler.close()
    console = _StandardError()
    console.setLevel(logging.WARNING if study_log and is_interactive(sys.stderr) else logging.INFO)
    for handler in [console] if study_log is None else [_file_handler(study_log), console]:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def tell_all() -> None:
    """Send every line of the logger ``src`` to the console as well, where no bars take over the terminal."""
    for handler in logging.getLogger("src").handlers:
        if isinstance(handler, _StandardError):
            handler.setLevel(logging.INFO)


def _file_handler(study_log: Path) -> _StudyLog:
    file = _open_log(study_log)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return file


def print_table(study: StudyTable, answer: Sequence[str], paths: StudyPaths) -> None:
    """Print tables, answer, unranked runs with their causes, and where everything lies, to stdout."""
    width = None if sys.stdout.isatty() else UNBOUNDED
    console = Console(file=sys.stdout, width=width, highlight=False)
    for table in study.tables:
        console.print(Text(one_line(table.title), style="bold"))
        if table.ranked:
            _print_ranked(console, table, paths)
        console.print()
    for line in (*answer, *_not_ranked(study)):
        console.print(Text(line))
    places = {"runs": paths.runs, "table": paths.table_markdown, "": paths.table_csv, "log": paths.log}
    if paths.page.exists():
        places["page"] = paths.page
    console.print()
    for name, path in places.items():
        console.print(Text(f"{name:<6}{path}"), soft_wrap=True)


def _open_log(study_log: Path) -> _StudyLog:
    try:
        study_log.parent.mkdir(parents=True, exist_ok=True)
        return _StudyLog(study_log, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise cannot_write(study_log, error) from error


def _print_ranked(console: Console, table: Table, paths: StudyPaths) -> None:
    """The ranked cells, of very many the best, without the columns for which the terminal is too narrow."""
    columns, dropped = list(table.columns), []
    for key in DISPENSABLE:
        if _natural_width(console, _rich_table(console, table, columns)) <= console.width:
            break
        dropped += [column.title for column in columns if column.key == key]
        columns = [column for column in columns if column.key != key]
    console.print(_rich_table(console, table, columns))
    if dropped:
        console.print(Text(f"Left out for lack of width: {', '.join(dropped)}.", style="dim"))
    if len(table.ranked) > MOST_CELLS:
        console.print(Text(f"The best {MOST_LINES} of {len(table.ranked):,d} cells; {paths.table_csv.name} has all."))


def _rich_table(console: Console, table: Table, columns: Sequence[Column]) -> RichTable:
    rules = box.SIMPLE_HEAD if console.is_terminal and not console.options.ascii_only else PLAIN_RULES
    grid = RichTable(box=rules, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        title = Text(column.title.replace(" ", "\n"))
        grid.add_column(title, justify="left" if column.kind == "text" else "right", no_wrap=True)
    shown = table.ranked if len(table.ranked) <= MOST_CELLS else table.ranked[:MOST_LINES]
    for place, cell in enumerate(shown):
        values = [Text(show(column.value(cell), column.kind)) for column in columns]
        grid.add_row(*values, style="bold" if place == 0 else None)
    return grid


def _natural_width(console: Console, grid: RichTable) -> int:
    return Measurement.get(console, console.options.update(width=UNBOUNDED), grid).maximum


def _not_ranked(study: StudyTable) -> list[str]:
    problems = [problem for table in study.tables for problem in table.problems]
    lines = [f"  {p.label}: {p.status}: {one_line(p.cause, LONGEST_CAUSE)}" for p in problems]
    lines += [f"  {skipped.path}: not read: {one_line(skipped.reason, LONGEST_CAUSE)}" for skipped in study.skipped]
    hidden = len(lines) - MOST_LINES
    more = [f"  and {hidden} more, all in the report"] if hidden > 0 else []
    return ["Not ranked:", *lines[:MOST_LINES], *more] if lines else []
