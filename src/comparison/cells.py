"""Cells: one configuration over its seeds.

A mean over seeds exists only where every seed that counts has the value; a seed that did not complete is
missing and makes the cell say "2 of 3".
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from src.records.record import RunRecord, Scores
from src.records.text import Value
from src.spec import RunSpec
from src.spec.identity import GROUPS, canonical_json


@dataclass(frozen=True)
class Cell:
    """Records that differ in nothing but the seed.

    Attributes:
        spec: of the first seed.
        records: sorted by seed.
    """

    spec: RunSpec
    records: tuple[RunRecord, ...]

    @property
    def adapted(self) -> bool:
        return self.spec.lora.targets != "none"

    @property
    def scored(self) -> tuple[RunRecord, ...]:
        """The runs that count: completed, with a validation score."""
        return tuple(record for record in self.records if self.counts(record))

    def counts(self, record: RunRecord) -> bool:
        return record.status == "completed" and self._score(record.metrics.validation) is not None

    @property
    def whole(self) -> bool:
        """Every seed counts, so the mean is not one over survivors."""
        return len(self.scored) == len(self.records)

    @property
    def validation(self) -> float | None:
        return self._mean(lambda record: self._score(record.metrics.validation))

    @property
    def test(self) -> float | None:
        return self._mean(lambda record: self._score(record.metrics.test))

    @property
    def total_s(self) -> float | None:
        return self._mean(lambda record: record.time.get("total_s"))

    @property
    def seeds(self) -> Value:
        """How many seeds count; ``2 of 3`` where others did not complete."""
        counted, run = len(self.scored), len(self.records)
        return run if counted == run else f"{counted} of {run}"

    @property
    def seed_values(self) -> frozenset[int]:
        return frozenset(record.run_spec().seed for record in self.scored)

    @property
    def rank(self) -> int | None:
        """The rank trained; from a budget it is known once a run has started."""
        known = (record.params.rank for record in self.records if record.params.rank is not None)
        return next(known, self.spec.lora.rank)

    @property
    def adapter_parameters(self) -> int | None:
        return next((r.params.adapter for r in self.records if r.params.adapter is not None), None)

    @property
    def size(self) -> tuple[float, float]:
        """Rank and adapter parameters to sort by; what is unknown comes last."""
        rank, parameters = self.rank, self.adapter_parameters
        return math.inf if rank is None else rank, math.inf if parameters is None else parameters

    def _score(self, scores: Scores | None) -> float | None:
        return None if scores is None else scores.get(self.spec.task.metric)

    def _mean(self, value_of: Callable[[RunRecord], float | None]) -> float | None:
        values = [value_of(record) for record in self.scored]
        present = [value for value in values if value is not None]
        return math.fsum(present) / len(present) if present and len(present) == len(values) else None


def group_cells(records: Iterable[RunRecord]) -> list[Cell]:
    """Records by everything in their specs but the seed, in a fixed order."""
    groups: dict[str, list[tuple[RunSpec, RunRecord]]] = defaultdict(list)
    for record in records:
        spec = record.run_spec()
        groups[canonical_json(dataclasses.replace(spec, seed=0))].append((spec, record))
    cells = []
    for _, members in sorted(groups.items()):
        members.sort(key=lambda member: member[0].seed)
        cells.append(Cell(members[0][0], tuple(record for _, record in members)))
    return cells


def fields_of(spec: RunSpec) -> dict[str, Value]:
    """Identity-bearing fields by dotted name, in the spec's order; those that shape adapters only if there are any."""
    flat: dict[str, Value] = {"seed": spec.seed}
    for name in GROUPS:
        group = getattr(spec, name)
        for f in dataclasses.fields(group):
            if f.metadata.get("identity", True):
                flat[f"{name}.{f.name}"] = getattr(group, f.name)
    if spec.lora.targets == "none":
        flat = {key: value for key, value in flat.items() if not key.startswith("lora.") and key != "optim.lr"}
    return flat


def varying_fields(cells: Sequence[Cell]) -> list[str]:
    """Dotted names of the fields that take more than one value, in the spec's order."""
    values: dict[str, set[Value]] = {}
    for cell in sorted(cells, key=lambda cell: not cell.adapted):
        for key, value in fields_of(cell.spec).items():
            values.setdefault(key, set()).add(value)
    return [key for key, seen in values.items() if len(seen) > 1]
