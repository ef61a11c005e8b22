"""report/table.md and report/table.csv: every cell and every run that is not ranked, as at the end of a sweep."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from src.comparison.cells import Cell
from src.comparison.table import Problem, StudyTable, Table
from src.records.text import Value
from src.reporting.markdown import escape, table_lines

# Also their wide forms, which some spreadsheets take for the same.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_markdown(study: StudyTable, sentences: Sequence[str]) -> str:
    """Tables, answer, and what is not ranked with its cause."""
    lines = [f"# {escape(study.study)}", ""]
    for table in study.tables:
        lines += [f"## {escape(table.title)}", "", *_markdown_table(table), ""]
    lines += [f"{escape(sentence)}\n" for sentence in sentences]
    problems = [problem for table in study.tables for problem in table.problems]
    if problems or study.skipped:
        lines += ["## Not ranked", ""]
        lines += [f"- {escape(f'{p.label}: {p.status}: {p.cause}')}" for p in problems]
        lines += [f"- {escape(f'{skipped.path}: not read: {skipped.reason}')}" for skipped in study.skipped]
    return "\n".join(lines).rstrip() + "\n"


def to_csv(study: StudyTable) -> str:
    """`table_rows` with plain numbers; empty where missing; no cell starts a formula."""
    header, rows = table_rows(study)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([guard(value) for value in row] for row in rows)
    return out.getvalue()


def table_rows(study: StudyTable) -> tuple[list[str], list[list[Value]]]:
    """Header and rows: ranked cells, then one row for each run that is not ranked; None where missing."""
    columns = list(dict.fromkeys(column.key for table in study.tables for column in table.columns))
    rows: list[list[Value]] = []
    for table in study.tables:
        lines = [_csv_line(table, cell) for cell in table.ranked] + [_csv_problem(table, p) for p in table.problems]
        for line in lines:
            own = [table.model, table.task, table.metric, line["status"], *(line.get(key) for key in columns)]
            rows.append([*own, line["run_ids"], line.get("cause")])
    return ["model", "task", "metric", "status", *columns, "run_ids", "cause"], rows


def _markdown_table(table: Table) -> list[str]:
    if not table.ranked:
        return ["No cell has a validation score."]
    words = next(place for place, column in enumerate(table.columns) if column.kind != "text")
    titles = [column.title for column in table.columns]
    return table_lines(titles, [table.row(cell) for cell in table.ranked], words)


def _csv_line(table: Table, cell: Cell) -> dict[str, Value]:
    values = {column.key: column.value(cell) for column in table.columns}
    return {**values, "status": "completed", "run_ids": " ".join(record.run_id for record in cell.scored)}


def _csv_problem(table: Table, problem: Problem) -> dict[str, Value]:
    """What was asked for, without the means, which belong to the seeds that completed."""
    asked = {c.key: c.value(problem.cell) for c in table.columns if c.kind not in ("score", "seconds")}
    return {**asked, "seeds": None, "status": problem.status, "run_ids": problem.run_id, "cause": problem.cause}


def guard(value: Value) -> Value:
    """A text that a spreadsheet would run as a formula gets a leading quote; numbers, also negative ones, do not."""
    # csv leaves it without quotes, and readers begin a new row there.
    value = value.replace("\r", " ") if isinstance(value, str) else value
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA_STARTS) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
