"""Methods at one budget: the same number of trained parameters, spent on each method, and references beside them."""

from __future__ import annotations

from collections.abc import Sequence

from src.comparison.findings import Findings
from src.comparison.methods import ComparedMethod, OneBudget, methods_at_one_budget
from src.records.text import MISSING, show
from src.reporting.document import Block, Grid, Paragraph, Picture, Section, gallery, grid, without_empty
from src.reporting.material import Material
from src.reporting.methods import budget_words
from src.reporting.sections.scores import rate_text, score_cells

COLUMNS = (
    "method", "matrices and size", "trained parameters", "left of the budget", "learning rate", "seeds", "validation",
    "test", "over seeds", "over examples", "difference from LoRA", "Holm-corrected p",
)  # fmt: skip
DIFFERENCE = (
    "A difference is on test, paired by seed; positive is better; p is corrected over the comparisons with LoRA, the "
    "head alone apart. "
)


def method_section(material: Material, pictures: Sequence[tuple[Picture, ...]]) -> list[Section]:
    """A grid and the figure for each table that has methods to compare; the sentence stands in the answer."""
    blocks: list[Block] = []
    for findings, own in zip(material.findings, pictures, strict=True):
        compared = methods_at_one_budget(findings)
        if compared is not None:
            blocks += [] if material.single else [Paragraph(f"{findings.table.title}:")]
            blocks += [method_grid(findings, compared), *gallery(own)]
    return [Section("Methods at one budget", "methods", tuple(blocks))] if blocks else []


def method_grid(findings: Findings, compared: OneBudget) -> Grid:
    """Methods of the budget, best validation first, then the references."""
    rows = [_row(method) for method in compared.members]
    rows += [_row(method, reference=True) for method in compared.references]
    tested = any(method.difference for method in (*compared.members, *compared.references))
    percent = f"{100 * (1 - findings.level):g} %"
    caption = (
        f"{findings.table.title}; {budget_words(compared)} besides the head, each method at its best by validation, "
        f"best validation first. Intervals at {percent}, of the test score. {DIFFERENCE if tested else ''}"
        "References have whatever size they have."
        f"{' Lower scores are better.' if findings.table.lower_is_better else ''}"
    )
    return without_empty(grid(COLUMNS, rows, text_columns=2, caption=caption))


def _row(method: ComparedMethod, *, reference: bool = False) -> list[str]:
    contender = method.contender
    cell = contender.choice.cell
    matrices = [cell.spec.lora.targets] if cell.has_lora else []
    return [
        f"{method.name}{' (reference)' if reference else ''}",
        " ".join([*matrices, cell.size_text]).strip() or MISSING,
        show(cell.adapter_parameters, "count"),
        show(cell.residual, "count"),
        rate_text(contender),
        str(cell.seeds),
        *score_cells(contender, method.difference),
    ]
