"""Contenders that belong side by side: those of one method and target set by rank, and those of one budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from src.comparison.cells import Cell
from src.comparison.findings import Contender
from src.comparison.method import LORA

ByRank = dict[str, dict[int, Contender]]


def plain_lora(contenders: Sequence[Contender]) -> list[Contender]:
    """Those of LoRA as in the paper, without its kin."""
    return [contender for contender in contenders if contender.choice.cell.method == LORA]


def by_rank(contenders: Sequence[Contender]) -> ByRank:
    """By family and rank the first contender, so the best on validation where more than these two varies."""
    lines: ByRank = defaultdict(dict)
    for contender in contenders:
        cell = contender.choice.cell
        if cell.rank is not None:
            lines[cell.family].setdefault(cell.rank, contender)
    return dict(lines)


def at_one_budget(
    contenders: Sequence[Contender], kind_of: Callable[[Cell], str] = lambda cell: cell.family
) -> tuple[int, list[Contender]]:
    """The budget (or, without budgets, the number of trained parameters) with the most kinds, by default families, and
    the first contender of each; 0 and nothing where sizes are unknown."""
    groups: dict[int, dict[str, Contender]] = defaultdict(dict)
    for contender in contenders:
        cell = contender.choice.cell
        size = cell.spec.lora.budget if cell.spec.lora.budget is not None else cell.adapter_parameters
        if size is not None:
            groups[size].setdefault(kind_of(cell), contender)
    if not groups:
        return 0, []
    budget = max(groups, key=lambda size: (len(groups[size]), size))
    return budget, list(groups[budget].values())
