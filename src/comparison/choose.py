"""For each method, target set and size the learning rate and alpha with the best mean validation; never by test."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from src.comparison.cells import Cell
from src.comparison.table import Table, ranking
from src.records.text import Value

# Scores such as 0.912 and 0.902 differ by a rounding error more than 0.01.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Choice:
    """The best cell of one configuration.

    Attributes:
        cell: chosen by validation.
        tried: learning rates of the configuration that ran to a result, also where the result was divergence
            or a place too low to go on.
    """

    cell: Cell
    tried: frozenset[float]

    @property
    def at_edge(self) -> str | None:
        """``highest`` or ``lowest`` where a better learning rate may lie beyond those tried, else None."""
        rate = self.cell.spec.optim.lr
        if len(self.tried) < 2 or min(self.tried) < rate < max(self.tried):
            return None
        return "highest" if rate == max(self.tried) else "lowest"


def choose(table: Table) -> list[Choice]:
    """One choice for each combination of method, targets, rank, size and what else varies; best first."""
    groups: dict[tuple[Value, ...], list[Cell]] = defaultdict(list)
    tried: dict[tuple[Value, ...], set[float]] = defaultdict(set)
    for cell in _adapted_cells(table):
        key = _configuration(table, cell)
        if cell.scored:
            groups[key].append(cell)
        if any(record.status in ("completed", "diverged", "eliminated") for record in cell.records):
            tried[key].add(cell.spec.optim.lr)
    choices = [Choice(_chosen(cells, tried[key]), frozenset(tried[key])) for key, cells in groups.items()]
    return sorted(choices, key=lambda choice: _preference(choice.cell))


def best_of(cells: Iterable[Cell]) -> Cell:
    """Best by validation; a cell that lost a seed counts only where all have, as its mean is over survivors."""
    return min(cells, key=_preference)


def _chosen(cells: Sequence[Cell], tried: Collection[float]) -> Cell:
    """The best; among equals the learning rate nearest the middle of those tried, where a better one can lie aside."""
    best = best_of(cells)
    middle = math.log(min(tried) * max(tried)) / 2
    equal = [cell for cell in cells if cell.whole == best.whole and cell.validation == best.validation]
    return min(equal, key=lambda cell: (abs(math.log(cell.spec.optim.lr) - middle), _preference(cell)))


def smallest_within(table: Table, choices: Sequence[Choice], best: Cell, within: float) -> Cell:
    """The lowest rank, then the fewest adapter parameters, at most `within` behind `best` on validation."""
    cells = [choice.cell for choice in choices if choice.cell.whole or not best.whole]
    near = [cell for cell in cells if behind(table, cell, best) <= within + ROUNDING]
    return min(near, key=lambda cell: (*cell.size, *_preference(cell)))


def behind(table: Table, cell: Cell, best: Cell) -> float:
    """How much worse than `best` on validation, in the metric's unit; negative where better."""
    assert cell.validation is not None and best.validation is not None
    gap = best.validation - cell.validation
    return -gap if table.lower_is_better else gap


def _adapted_cells(table: Table) -> list[Cell]:
    """Ranked cells and those of which no seed counts."""
    unranked = [problem.cell for problem in table.problems if not problem.cell.scored]
    return [cell for cell in (*table.ranked, *unranked) if cell.adapted]


def _configuration(table: Table, cell: Cell) -> tuple[Value, ...]:
    size = (cell.rank, cell.ranks, cell.method_size)
    return (cell.method, cell.spec.lora.targets, *size, *(cell.fields.get(key) for key in table.varying))


def _preference(cell: Cell) -> tuple[Any, ...]:
    return not cell.whole, *ranking(cell)
