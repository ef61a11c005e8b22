"""Every run that is not ranked, with its cause: failed, diverged, interrupted, unreadable, running, never started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from src.comparison.table import Table
from src.records.record import RunRecord
from src.records.text import one_line
from src.reporting.document import MOST_ROWS, Block, Bullets, Paragraph, Section, grid
from src.reporting.material import Material, cells_of

COLUMNS = ("run", "status", "cause")


def problem_section(material: Material) -> Section:
    """Never empty: that everything completed is worth a sentence."""
    rows = problem_rows(material)
    blocks: list[Block] = []
    if rows:
        blocks.append(grid(COLUMNS, _few_of_each(rows), text_columns=3, caption=_cut(rows)))
    elif material.study.records:
        blocks.append(Paragraph("Every run that was started has completed, with a validation score."))
    if material.no_examples:
        blocks.append(Paragraph(_no_examples(material.no_examples)))
    return Section("Not ranked", "not-ranked", tuple(blocks or [Paragraph("No run was started.")]))


def problem_rows(material: Material) -> list[list[str]]:
    """By COLUMNS, all of them."""
    rows = [row for findings in material.findings for row in _table_rows(findings.table)]
    rows += [[str(skipped.path), "not read", one_line(skipped.reason)] for skipped in material.tables.skipped]
    rows += [
        [run, "no record", "running now, or stopped before its end; the same command continues it"]
        for run in material.tables.unfinished
    ]
    return rows


def is_cut(rows: Sequence[list[str]]) -> bool:
    """Whether the page shows only some of the rows, and a file of their own holds all."""
    return len(rows) > MOST_ROWS


def _few_of_each(rows: Sequence[list[str]]) -> list[list[str]]:
    """Of very many the first of each status, so that none hides another."""
    if not is_cut(rows):
        return list(rows)
    most, seen, kept = max(1, MOST_ROWS // len({row[1] for row in rows})), Counter[str](), []
    for row in rows:
        seen[row[1]] += 1
        kept += [row] if seen[row[1]] <= most else []
    return kept


def _cut(rows: Sequence[list[str]]) -> str:
    if not is_cut(rows):
        return ""
    counts = ", ".join(f"{number:,d} {status}" for status, number in Counter(row[1] for row in rows).most_common())
    return f"The first of each status, of {len(rows):,d} rows ({counts}); not_ranked.csv has all."


def figure_failures(failures: tuple[str, ...]) -> list[Block]:
    """What could not be drawn."""
    return [Paragraph("These figures could not be drawn:"), Bullets(failures)] if failures else []


def _table_rows(table: Table) -> list[list[str]]:
    rows = [[problem.label, problem.status, problem.cause] for problem in table.problems]
    return rows + missing_seeds(table)


def missing_seeds(table: Table) -> list[list[str]]:
    """Seeds that other cells of the table have and a cell lacks: differences from it rest on fewer pairs."""
    cells = cells_of(table)
    seeds = {cell_seed for cell in cells for cell_seed in _seeds(cell.records)}
    rows = []
    for cell in cells:
        absent = sorted(seeds - _seeds(cell.records))
        if absent:
            listed = ", ".join(map(str, absent))
            cause = f"seed{'' if len(absent) == 1 else 's'} {listed} of other cells; never started"
            rows.append([table.label(cell), "missing", cause])
    return rows


def _seeds(records: Iterable[RunRecord]) -> set[int]:
    return {record.run_spec().seed for record in records}


def _no_examples(number: int) -> str:
    cells = "1 configuration" if number == 1 else f"{number} configurations"
    return f"Results by test example of {cells} cannot be read, so there is no interval over test examples for them."
