"""Configurations with their estimates, and the figures of scores."""

from __future__ import annotations

from collections.abc import Sequence

from src.comparison.findings import Contender, Estimate, Findings
from src.records.text import MISSING, show
from src.reporting.document import Block, Grid, Paragraph, Picture, Section, gallery, grid
from src.reporting.material import Material
from src.statistics.interval import Interval

COLUMNS = (
    "configuration", "place", "learning rate", "adapter parameters", "seeds", "validation", "test",
    "over seeds", "over examples", "difference from best", "Holm-corrected p",
)  # fmt: skip


def score_sections(material: Material, pictures: Sequence[tuple[Picture, ...]]) -> list[Section]:
    """One section for each table."""
    sections = []
    for number, (findings, own) in enumerate(zip(material.findings, pictures, strict=True), start=1):
        title = "Scores" if material.single else f"Scores: {findings.table.title}"
        anchor = "scores" if material.single else f"scores-{number}"
        sections.append(Section(title, anchor, (*_blocks(findings), *gallery(own))))
    return sections


def _blocks(findings: Findings) -> list[Block]:
    if not findings.contenders and findings.baseline is None:
        return [Paragraph("No cell of this table has a validation score yet.")]
    return [contender_grid(findings)]


def contender_grid(findings: Findings) -> Grid:
    """One row for each configuration at its best learning rate, the head alone last."""
    contenders = [*findings.contenders, *([findings.baseline] if findings.baseline else [])]
    percent = f"{100 * (1 - findings.level):g} %"
    table = findings.table
    caption = (
        f"{table.title}. Each configuration at the learning rate that validation chose; intervals at {percent}, of the "
        "test score. A difference is on test, paired by seed; positive is better. Configurations with the same place "
        "are not told apart by these data."
        f"{' Lower scores are better.' if table.lower_is_better else ''}"
    )
    return _without_empty(grid(COLUMNS, [_row(contender) for contender in contenders], caption=caption))


def _without_empty(full: Grid) -> Grid:
    """Less the columns in which everything is missing: with one seed there are no differences, for instance."""
    kept = [place for place, column in enumerate(zip(*full.rows, strict=True)) if set(column) != {MISSING}]
    rows = [[row[place] for place in kept] for row in full.rows]
    return grid([full.columns[place] for place in kept], rows, full.text_columns, full.caption)


def _row(contender: Contender) -> list[str]:
    cell, test, difference = contender.choice.cell, contender.test, contender.difference
    return [
        contender.label,
        show(contender.place, "count"),
        _rate(contender),
        show(cell.adapter_parameters, "count"),
        str(cell.seeds),
        show(contender.validation.mean, "score"),
        show(test.mean if test else None, "score"),
        _interval(test.over_seeds if test else None),
        _over_examples(test),
        MISSING if difference is None else f"{difference.mean:+.4f} {_span(difference.interval)}".rstrip(),
        MISSING if difference is None else f"{difference.p_holm:.2g}",
    ]


def _rate(contender: Contender) -> str:
    if not contender.choice.cell.adapted:
        return MISSING
    edge = contender.choice.at_edge
    rate = show(contender.choice.cell.spec.optim.lr, "number")
    return f"{rate} ({edge} tried)" if edge else rate


def _over_examples(test: Estimate | None) -> str:
    return _interval(test.over_examples) if test else MISSING


def _interval(interval: Interval | None) -> str:
    return MISSING if interval is None else f"{show(interval.low, 'score')} to {show(interval.high, 'score')}"


def _span(interval: Interval | None) -> str:
    return "" if interval is None else f"({interval.low:+.4f} to {interval.high:+.4f})"
