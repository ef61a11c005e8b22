"""Contenders that belong side by side: those of one target set by rank, and those of one budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from src.comparison.findings import Contender

ByRank = dict[str, dict[int, Contender]]


def by_rank(contenders: Sequence[Contender]) -> ByRank:
    """By target set and rank the first contender, so the best on validation where more than these two varies."""
    lines: ByRank = defaultdict(dict)
    for contender in contenders:
        cell = contender.choice.cell
        if cell.rank is not None:
            lines[cell.spec.lora.targets].setdefault(cell.rank, contender)
    return dict(lines)


def at_one_budget(contenders: Sequence[Contender]) -> tuple[int, list[Contender]]:
    """The budget (or, without budgets, the number of adapter parameters) with the most target sets, and the first
    contender of each; 0 and nothing where sizes are unknown."""
    groups: dict[int, dict[str, Contender]] = defaultdict(dict)
    for contender in contenders:
        cell = contender.choice.cell
        size = cell.spec.lora.budget if cell.spec.lora.budget is not None else cell.adapter_parameters
        if size is not None:
            groups[size].setdefault(cell.spec.lora.targets, contender)
    if not groups:
        return 0, []
    budget = max(groups, key=lambda size: (len(groups[size]), size))
    return budget, list(groups[budget].values())
