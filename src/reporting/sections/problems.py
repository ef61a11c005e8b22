"""Every run that is not ranked, with its cause: failed, diverged, interrupted, unreadable, running, never started."""

from __future__ import annotations

from collections.abc import Iterable

from src.comparison.table import Table
from src.records.record import RunRecord
from src.records.text import one_line
from src.reporting.document import Block, Bullets, Paragraph, Section, grid
from src.reporting.material import Material, cells_of

COLUMNS = ("run", "status", "cause")


def problem_section(material: Material) -> Section:
    """Never empty: that everything completed is worth a sentence."""
    rows = [row for findings in material.findings for row in _table_rows(findings.table)]
    rows += [[str(skipped.path), "not read", one_line(skipped.reason)] for skipped in material.tables.skipped]
    rows += [
        [run, "no record", "running now, or stopped before its end; the same command continues it"]
        for run in material.tables.unfinished
    ]
    blocks: list[Block] = []
    if rows:
        blocks.append(grid(COLUMNS, rows, text_columns=3))
    elif material.study.records:
        blocks.append(Paragraph("Every run that was started has completed, with a validation score."))
    if material.no_examples:
        blocks.append(Paragraph(_no_examples(material.no_examples)))
    return Section("Not ranked", "not-ranked", tuple(blocks or [Paragraph("No run was started.")]))


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
