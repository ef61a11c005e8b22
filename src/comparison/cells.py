"""Cells: one configuration over its seeds.

A mean over seeds exists only where every seed that counts has the value; a seed that did not complete is
missing and makes the cell say "2 of 3".
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import attrgetter
from typing import Any

from src.comparison.method import adapts, family_of, full_family_of, has_lora, method_of
from src.records.record import RunRecord, Scores
from src.records.text import Value
from src.spec import SIZE_UNIT, RunSpec
from src.spec.identity import GROUPS, canonical_json

# Fields that an older study did not have, and the value that they then stand for: there is no need to show it.
LATER_DEFAULTS = {
    f"{name}.{f.name}": f.default
    for name, group in GROUPS.items()
    for f in dataclasses.fields(group)
    if f.metadata.get("later")
}


@dataclass(frozen=True)
class Cell:
    """Records that differ in nothing but the seed.

    Attributes:
        spec: of the first seed.
        records: sorted by seed, one for each.
        repeats: other runs of these seeds, each with the record that stands for it; never part of a mean.
    """

    spec: RunSpec
    records: tuple[RunRecord, ...]
    repeats: tuple[tuple[RunRecord, RunRecord], ...] = ()

    @cached_property
    def fields(self) -> dict[str, Value]:
        """`fields_of` its spec."""
        return fields_of(self.spec)

    @cached_property
    def adapted(self) -> bool:
        """Whether more than the head is trained."""
        return adapts(self.spec)

    @cached_property
    def has_lora(self) -> bool:
        return has_lora(self.spec)

    @cached_property
    def method(self) -> str:
        return method_of(self.spec)

    @cached_property
    def family(self) -> str:
        """Method and matrices without size or rank: ``qv``, ``DoRA qv``, ``prefix``; ``none`` for the head alone."""
        return family_of(self.spec)

    @cached_property
    def scored(self) -> tuple[RunRecord, ...]:
        """The runs that count: completed, with a validation score."""
        return tuple(record for record in self.records if self.counts(record))

    def counts(self, record: RunRecord) -> bool:
        return record.status == "completed" and self._score(record.metrics.validation) is not None

    @cached_property
    def whole(self) -> bool:
        """Every seed counts, so the mean is not one over survivors."""
        return len(self.scored) == len(self.records)

    @cached_property
    def validation(self) -> float | None:
        return self._mean(lambda record: self._score(record.metrics.validation))

    @cached_property
    def test(self) -> float | None:
        return self.mean_on_test(self.spec.task.metric)

    def mean_on_test(self, metric: str) -> float | None:
        """Mean over seeds of any score on test; None where a seed lacks it."""
        return self._mean(lambda record: (record.metrics.test or {}).get(metric))

    @cached_property
    def total_s(self) -> float | None:
        return self._mean(lambda record: record.time.get("total_s"))

    @cached_property
    def seeds(self) -> Value:
        """How many seeds count; ``2 of 3`` where others did not complete."""
        counted, run = len(self.seed_values), len({record.run_spec().seed for record in self.records})
        return run if counted == run else f"{counted} of {run}"

    @cached_property
    def seed_values(self) -> frozenset[int]:
        return frozenset(record.run_spec().seed for record in self.scored)

    @cached_property
    def rank(self) -> int | None:
        """The rank trained; from a budget it is known once a run has started. None where matrices differ in it."""
        if not self.has_lora:
            return None
        known = (record.params.rank for record in self.records if record.params.rank is not None)
        return next(known, self.spec.lora.rank if self.spec.lora.ranks is None else None)

    @property
    def ranks(self) -> str | None:
        """Ranks that differ from matrix to matrix, as asked for, else as trained: ``8 {q: 4}``, ``7 to 8``."""
        lora = self.spec.lora
        if lora.ranks is not None:
            covered = {letter for where in lora.ranks if where.isalpha() for letter in where}
            default = "" if set(lora.targets) <= covered else f"{lora.rank} "
            return f"{default}{as_text(lora.ranks)}"
        trained = self._trained_ranks
        return f"{min(trained)} to {max(trained)}" if trained else None

    @property
    def method_size(self) -> int | None:
        """m of adapter layers, tokens of a prefix, d of a subspace; from a budget known once a run has started."""
        known = (record.params.size for record in self.records if record.params.size is not None)
        return next(known, self.spec.method.size)

    @cached_property
    def size_text(self) -> str:
        """``r=8``, ``m=16``, ``r=4, m=8``, ``budget 73,728`` before a run has told, nothing for what has no size."""
        parts = []
        if self.has_lora and (self.ranks or self.rank is not None):
            parts.append(f"r={self.ranks or self.rank}")
        if self.method_size is not None:
            parts.append(f"{SIZE_UNIT.get(self.spec.method.name, 'm')}={self.method_size:,d}")
        if self.spec.lora.budget is not None and (not parts or (self.has_lora and not parts[0].startswith("r="))):
            parts.insert(0, f"budget {self.spec.lora.budget:,d}")
        return ", ".join(parts)

    @property
    def name(self) -> str:
        """Family and size: ``qv r=8``, ``DoRA qv r=7``, ``prefix m=16``, ``full fine-tuning``."""
        return f"{self.family} {self.size_text}".rstrip()

    @property
    def full_name(self) -> str:
        """`name` with the method in any case, for where several stand side by side: ``LoRA qv r=8``, ``head only``."""
        return f"{full_family_of(self.spec)} {self.size_text}".rstrip()

    @cached_property
    def adapter_parameters(self) -> int | None:
        """Trained parameters besides the head, whatever the method."""
        return next((r.params.adapter for r in self.records if r.params.adapter is not None), None)

    @property
    def residual(self) -> int | None:
        """Parameters of the budget that were left over."""
        return next((r.params.budget.residual for r in self.records if r.params.budget is not None), None)

    @cached_property
    def size(self) -> tuple[float, float]:
        """Rank (the largest, where they differ) and trained parameters to sort by; what has none comes last."""
        rank = self.rank if self.rank is not None else max(self._trained_ranks, default=None)
        parameters = self.adapter_parameters
        return math.inf if rank is None else rank, math.inf if parameters is None else parameters

    @property
    def _trained_ranks(self) -> set[int]:
        """Where matrices differ in rank."""
        return next((set(r.params.ranks.values()) for r in self.records if r.params.ranks), set())

    def _score(self, scores: Scores | None) -> float | None:
        return None if scores is None else scores.get(self.spec.task.metric)

    def _mean(self, value_of: Callable[[RunRecord], float | None]) -> float | None:
        values = [value_of(record) for record in self.scored]
        present = [value for value in values if value is not None]
        return math.fsum(present) / len(present) if present and len(present) == len(values) else None


def group_cells(records: Iterable[RunRecord]) -> list[Cell]:
    """Records by everything in their specs but the seed, in a fixed order.

    Of several runs of one seed the first that counts is kept, else the first that completed, else the first, by run id.
    """
    groups: dict[str, list[tuple[RunSpec, RunRecord]]] = defaultdict(list)
    for record in records:
        spec = record.run_spec()
        groups[canonical_json(dataclasses.replace(spec, seed=0))].append((spec, record))
    return [_cell(members) for _, members in sorted(groups.items())]


def _cell(members: Sequence[tuple[RunSpec, RunRecord]]) -> Cell:
    spec, _ = min(members, key=lambda member: member[0].seed)
    every = Cell(spec, tuple(record for _, record in members))
    by_seed: dict[int, list[RunRecord]] = defaultdict(list)
    for own, record in sorted(members, key=lambda member: member[0].seed):
        by_seed[own.seed].append(record)
    for runs in by_seed.values():
        runs.sort(key=lambda record: (not every.counts(record), record.status != "completed", record.run_id))
    repeats = [(record, runs[0]) for runs in by_seed.values() for record in runs[1:]]
    return Cell(spec, tuple(runs[0] for runs in by_seed.values()), tuple(repeats))


def settings_of(spec: RunSpec) -> dict[str, Any]:
    """Identity-bearing fields by dotted name, in the spec's order, less those that shape nothing in this cell."""
    names = _shaping(spec.method.name, adapts(spec), has_lora(spec))
    return dict(zip(names, attrgetter(*names)(spec), strict=True))


def fields_of(spec: RunSpec) -> dict[str, Value]:
    """`settings_of` as text and numbers."""
    return {key: as_text(value) if isinstance(value, dict) else value for key, value in settings_of(spec).items()}


def as_text(value: Any) -> Value:
    """A mapping as a config writes it, ``{q: 4, v: 16}``, its keys in order; other values as they are."""
    if not isinstance(value, Mapping):
        return value  # type: ignore[no-any-return]
    return f"{{{', '.join(f'{key}: {value[key]}' for key in sorted(value))}}}"


def varying_fields(cells: Sequence[Cell]) -> list[str]:
    """Dotted names of the fields that take more than one value, in the spec's order."""
    values: dict[str, set[Value]] = {}
    for fields in sorted((cell.fields for cell in cells), key=len, reverse=True):
        for key, value in fields.items():
            values.setdefault(key, set()).add(value)
    return [key for key, seen in values.items() if len(seen) > 1]


@cache
def _shaping(own: str, adapted: bool, lora: bool) -> tuple[str, ...]:
    """Names of the fields that have a meaning with a method, where more than the head is trained, or LoRA is."""
    names = [
        f"{name}.{f.name}"
        for name, group in GROUPS.items()
        for f in dataclasses.fields(group)
        if f.metadata.get("identity", True)
    ]
    return ("seed", *(name for name in names if _shapes(name, own, adapted, lora)))


def _shapes(key: str, own: str, adapted: bool, lora: bool) -> bool:
    """Whether a field has a meaning; ``method.name`` has none where it is LoRA alone."""
    group, _, field = key.partition(".")
    if group == "method":
        return {"name": own != "lora", "size": own in SIZE_UNIT, "said": own == "random_subspace"}[field]
    if key == "optim.lr":
        return adapted
    return group != "lora" or lora or (field == "budget" and own in SIZE_UNIT)
