"""Configurations with their estimates, and the figures of scores."""

from __future__ import annotations

from collections.abc import Sequence

from src.comparison.findings import Contender, Difference, Findings
from src.comparison.further import further_metrics
from src.records.text import MISSING, show
from src.reporting.document import Block, Grid, Paragraph, Picture, Section, gallery, grid, shortened, without_empty
from src.reporting.material import Material
from src.statistics.interval import Interval

COLUMNS = (
    "configuration", "place", "learning rate", "adapter parameters", "seeds", "validation", "test",
    "over seeds", "over examples", "difference from best", "Holm-corrected p",
)  # fmt: skip
DIFFERENCE = (
    " A difference is on test, paired by seed; positive is better. Configurations with the same place are not told "
    "apart by these data."
)


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
    further = further_grid(findings)
    return [contender_grid(findings), *([further] if further else [])]


def contender_grid(findings: Findings) -> Grid:
    """One row for each configuration at its best learning rate, the head alone last."""
    contenders = _everyone(findings)
    percent = f"{100 * (1 - findings.level):g} %"
    table = findings.table
    caption = (
        f"{table.title}. Each configuration at the learning rate that validation chose; intervals at {percent}, of the "
        f"test score.{DIFFERENCE if findings.tested else ''}"
        f"{' Lower scores are better.' if table.lower_is_better else ''}"
    )
    columns = [name.replace("adapter", "trained") if table.several_methods else name for name in COLUMNS]
    rows = [_row(findings, contender) for contender in contenders]
    return without_empty(shortened(grid(columns, rows, caption=caption), "findings.csv"))


def further_grid(findings: Findings) -> Grid | None:
    """Every other metric on test; None where the records have none."""
    contenders = _everyone(findings)
    metrics = further_metrics([contender.choice.cell for contender in contenders])
    if not metrics:
        return None
    rows = [
        [contender.label, *(show(contender.choice.cell.mean_on_test(metric), "score") for metric in metrics)]
        for contender in contenders
    ]
    caption = (
        "Further scores on test, means over seeds of the same runs; nothing was chosen by them. Loss and perplexity "
        "are better where they are lower."
    )
    return shortened(grid(("configuration", *metrics), rows, caption=caption), "runs.csv")


def _everyone(findings: Findings) -> list[Contender]:
    """The head alone last."""
    return [*findings.contenders, *([findings.baseline] if findings.baseline else [])]


def _row(findings: Findings, contender: Contender) -> list[str]:
    cell = contender.choice.cell
    return [
        contender.label,
        show(contender.place if findings.tested else None, "count"),
        rate_text(contender),
        show(cell.adapter_parameters, "count"),
        str(cell.seeds),
        *score_cells(contender, contender.difference),
    ]


def score_cells(contender: Contender, difference: Difference | None) -> list[str]:
    """Validation, test, its intervals over seeds and over examples, a difference on test and its corrected p."""
    test = contender.test
    return [
        show(contender.validation.mean, "score"),
        show(test.mean if test else None, "score"),
        interval_text(test.over_seeds if test else None),
        interval_text(test.over_examples if test else None),
        MISSING if difference is None else f"{difference.mean:+.4f} {span_text(difference.interval)}".rstrip(),
        MISSING if difference is None else f"{difference.p_holm:.2g}",
    ]


def rate_text(contender: Contender) -> str:
    """``0.003``, ``0.01 (highest tried)``."""
    if not contender.choice.cell.adapted:
        return MISSING
    edge = contender.choice.at_edge
    rate = show(contender.choice.cell.spec.optim.lr, "number")
    return f"{rate} ({edge} tried)" if edge else rate


def interval_text(interval: Interval | None) -> str:
    """``0.8900 to 0.9040``."""
    return MISSING if interval is None else f"{show(interval.low, 'score')} to {show(interval.high, 'score')}"


def span_text(interval: Interval | None) -> str:
    """``(-0.0300 to +0.0120)``; nothing where there is none."""
    return "" if interval is None else f"({interval.low:+.4f} to {interval.high:+.4f})"
