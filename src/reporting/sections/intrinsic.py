"""The intrinsic dimension: scores by d, the figure beside the rank curve, and the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence

from src.comparison.findings import Findings
from src.comparison.intrinsic import IntrinsicDimension, Subspace, intrinsic_dimensions
from src.records.text import MISSING, show
from src.reporting.document import Block, Grid, Paragraph, Picture, Section, gallery, grid
from src.reporting.material import Material
from src.reporting.methods import PERCENT, intrinsic_dimension
from src.reporting.paper import D90, D90_SOURCE
from src.reporting.sections.scores import rate_text

COLUMNS = ("projection", "d", "learning rate", "seeds", "score", "of full fine-tuning", f"reaches {PERCENT}")


def intrinsic_section(material: Material, pictures: Sequence[tuple[Picture, ...]]) -> list[Section]:
    """No section where no table has a random subspace."""
    blocks: list[Block] = []
    for findings, own in zip(material.findings, pictures, strict=True):
        found = intrinsic_dimensions(findings)
        if found:
            blocks += [] if material.single else [Paragraph(f"{findings.table.title}:")]
            blocks += [*map(Paragraph, intrinsic_dimension(findings)), _by_d(findings, found), *gallery(own)]
    return [Section("Intrinsic dimension", "intrinsic", (*blocks, _paper()))] if blocks else []


def _by_d(findings: Findings, found: Sequence[IntrinsicDimension]) -> Grid:
    rows = [_row(each, subspace) for each in found for subspace in each.subspaces]
    caption = (
        f"Score is {found[0].split} {findings.table.metric}, the mean over seeds at the learning rate that validation "
        "chose. d counts all trained numbers besides the head: with SAID also one scale for each layer."
    )
    if not all(subspace.judged for each in found for subspace in each.subspaces):
        caption += " Where a d has lost seeds and full fine-tuning has not, it is not judged by those that survived."
    return grid(COLUMNS, rows, caption=caption)


def _row(found: IntrinsicDimension, subspace: Subspace) -> list[str]:
    cell, full = subspace.contender.choice.cell, found.full_score
    share = subspace.score / full if full is not None and found.threshold is not None else None
    return [
        found.method,
        show(subspace.d, "count"),
        rate_text(subspace.contender),
        str(cell.seeds),
        show(subspace.score, "score"),
        MISSING if share is None else f"{100 * share:.1f} %",
        _reaches(subspace),
    ]


def _reaches(subspace: Subspace) -> str:
    if not subspace.judged:
        return "not judged"
    return MISSING if subspace.reaches is None else "yes" if subspace.reaches else "no"


def _paper() -> Grid:
    rows = [[row.model, show(row.mrpc, "count"), show(row.qqp, "count")] for row in D90]
    caption = f"d90 with SAID in the paper, on other models and tasks than here ({D90_SOURCE})."
    return grid(("model", "MRPC", "QQP"), rows, caption=caption)
