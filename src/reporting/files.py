"""report/table.md and report/table.csv, written atomically from the records."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from src.comparison.cells import Cell
from src.comparison.find import find_all
from src.comparison.table import Problem, StudyTable, Table, build_tables
from src.records.atomic import write_bytes_atomic
from src.records.examples import ExampleFiles
from src.records.paths import StudyPaths
from src.records.study import Study
from src.records.text import Value, one_line
from src.reporting.answer import answer

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_report(study: Study, paths: StudyPaths, within: float) -> tuple[StudyTable, list[str]]:
    """Build tables and answer, write both files, and return what was written for showing it.

    Raises:
        WriteError: the system refused to write.
    """
    tables = build_tables(study)
    findings = find_all(tables.tables, ExampleFiles(paths), margin=within)
    sentences = answer(findings, tables)
    write_bytes_atomic(paths.table_markdown, to_markdown(tables, sentences).encode(errors="replace"))
    write_bytes_atomic(paths.table_csv, to_csv(tables).encode(errors="replace"))
    return tables, sentences


def to_markdown(study: StudyTable, sentences: Sequence[str]) -> str:
    """Tables, answer, and what is not ranked with its cause."""
    lines = [f"# {_escape(study.study)}", ""]
    for table in study.tables:
        lines += [f"## {_escape(table.title)}", "", *_markdown_table(table), ""]
    lines += [f"{_escape(sentence)}\n" for sentence in sentences]
    problems = [problem for table in study.tables for problem in table.problems]
    if problems or study.skipped:
        lines += ["## Not ranked", ""]
        lines += [f"- {_escape(f'{p.label}: {p.status}: {p.cause}')}" for p in problems]
        lines += [f"- {_escape(f'{skipped.path}: not read: {skipped.reason}')}" for skipped in study.skipped]
    return "\n".join(lines).rstrip() + "\n"


def to_csv(study: StudyTable) -> str:
    """Ranked cells with plain numbers, then one line for each run that is not ranked; empty where missing."""
    columns = list(dict.fromkeys(column.key for table in study.tables for column in table.columns))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "task", "metric", "status", *columns, "run_ids", "cause"])
    for table in study.tables:
        lines = [_csv_line(table, cell) for cell in table.ranked] + [_csv_problem(table, p) for p in table.problems]
        for line in lines:
            own = [table.model, table.task, table.metric, line["status"], *(line.get(key) for key in columns)]
            writer.writerow([_guard(value) for value in [*own, line["run_ids"], line.get("cause")]])
    return out.getvalue()


def _markdown_table(table: Table) -> list[str]:
    if not table.ranked:
        return ["No cell has a validation score."]
    rules = ["---" if column.kind == "text" else "---:" for column in table.columns]
    rows = [[_escape(text) for text in table.row(cell)] for cell in table.ranked]
    return [f"| {' | '.join(cells)} |" for cells in [[column.title for column in table.columns], rules, *rows]]


def _escape(text: str) -> str:
    """Foreign text inside Markdown: one line, no cell borders, no HTML."""
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _csv_line(table: Table, cell: Cell) -> dict[str, Value]:
    values = {column.key: column.value(cell) for column in table.columns}
    return {**values, "status": "completed", "run_ids": " ".join(record.run_id for record in cell.scored)}


def _csv_problem(table: Table, problem: Problem) -> dict[str, Value]:
    """What was asked for, without the means, which belong to the seeds that completed."""
    asked = {c.key: c.value(problem.cell) for c in table.columns if c.kind not in ("score", "seconds")}
    return {**asked, "seeds": None, "status": problem.status, "run_ids": problem.run_id, "cause": problem.cause}


def _guard(value: Value) -> Value:
    """A text that a spreadsheet would run as a formula gets a leading quote; numbers, also negative ones, do not."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
