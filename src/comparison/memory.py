"""What each configuration's training needs in memory and leaves on disk, beside full fine-tuning of the same model.

Learning rates, alphas and seeds do not change it, so runs that differ in nothing else are taken together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from src.comparison.cells import Cell
from src.comparison.method import FULL
from src.comparison.table import Table
from src.records.record import COUNTED, MEMORY, RunRecord
from src.records.text import Value

# What decides how many activations there are, whatever the method; the precision does too.
SHAPE = ("task.max_length", "trainer.batch_size", "trainer.accumulation")
WITHIN_METHOD = ("lora.layers", "lora.stacks", "lora.dropout")


@dataclass(frozen=True)
class MemoryCost:
    """One configuration: mean over the runs that measured it.

    Attributes:
        cell: one of its cells, for its names.
        setting: values of SHAPE and WITHIN_METHOD, and the precision as ``dtype``.
        runs: how many.
        trained: trained parameters, the head's too.
        parts: bytes by the names of MEMORY, None where not measured; peak_bytes is the largest, of a whole pack.
        full: full fine-tuning of the same model on batches of the same shape; None where the study has none.
    """

    cell: Cell
    setting: Mapping[str, Value]
    runs: int
    trained: int | None
    parts: Mapping[str, float | None]
    full: MemoryCost | None = None

    @property
    def total(self) -> float | None:
        """Sum of COUNTED; None where a part is missing."""
        values = [value for part in COUNTED if (value := self.parts[part]) is not None]
        return sum(values) if len(values) == len(COUNTED) else None

    @property
    def memory_of_full(self) -> float | None:
        """`total` over that of full fine-tuning."""
        return None if self.full is None else _ratio(self.total, self.full.total)

    @property
    def checkpoint_of_full(self) -> float | None:
        """Saved bytes over those of full fine-tuning."""
        return (
            None if self.full is None else _ratio(self.parts["checkpoint_bytes"], self.full.parts["checkpoint_bytes"])
        )


def memory_costs(table: Table) -> list[MemoryCost]:
    """Every configuration that was measured, fewest trained parameters first."""
    groups: dict[tuple[Value, ...], list[tuple[Cell, RunRecord]]] = defaultdict(list)
    for cell in table.cells:
        for record in cell.records:
            if any(record.memory.get(part) is not None for part in COUNTED):
                names = (cell.method, cell.spec.lora.targets, cell.size_text)
                groups[*names, *_setting(cell, record).values()].append((cell, record))
    costs = [_cost(members) for members in groups.values()]
    full = {_shape(cost): cost for cost in costs if cost.cell.method == FULL}
    beside = [MemoryCost(c.cell, c.setting, c.runs, c.trained, c.parts, full.get(_shape(c))) for c in costs]
    return sorted(beside, key=lambda cost: (*map(str, _shape(cost)), cost.trained or 0, cost.cell.name))


def smallest_and_largest(costs: Sequence[MemoryCost]) -> list[MemoryCost]:
    """Of each method and shape of batches the configurations with the fewest and the most trained parameters."""
    groups: dict[tuple[Value, ...], list[MemoryCost]] = defaultdict(list)
    for cost in costs:
        groups[cost.cell.method, *_shape(cost)].append(cost)
    kept = {id(end) for members in groups.values() for end in (members[0], members[-1])}
    return [cost for cost in costs if id(cost) in kept]


def _cost(members: Sequence[tuple[Cell, RunRecord]]) -> MemoryCost:
    cell, first = members[0]
    parts: dict[str, float | None] = {}
    for part in MEMORY:
        values = [value for _, record in members if (value := record.memory.get(part)) is not None]
        summary = max if part == "peak_bytes" else fmean
        parts[part] = summary(values) if values else None
    adapter, head = first.params.adapter, first.params.head
    trained = None if adapter is None else adapter + (head or 0)
    return MemoryCost(cell, _setting(cell, first), len(members), trained, parts)


def _setting(cell: Cell, record: RunRecord) -> dict[str, Value]:
    return {**{key: cell.fields.get(key) for key in (*SHAPE, *WITHIN_METHOD)}, "dtype": record.env.get("dtype")}


def _shape(cost: MemoryCost) -> tuple[Value, ...]:
    return tuple(value for key, value in cost.setting.items() if key not in WITHIN_METHOD)


def _ratio(value: float | None, reference: float | None) -> float | None:
    return value / reference if value is not None and reference else None
