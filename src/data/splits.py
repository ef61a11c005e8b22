"""From the source's splits to train, validation and test: seeded, stratified, and without a shared document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from src.data.draws import generator
from src.data.rows import ROLES, Rows
from src.errors import ConfigError, HarnessError
from src.spec import TaskSpec

MAX_LISTED = 10


@dataclass(frozen=True)
class Splits:
    """The three splits and what was left out on the way.

    Attributes:
        rows: of train, validation and test.
        overlapping: rows of a split that were dropped because their document stands in an earlier one, or, in a
            part carved from train, is the copy of a document already in it.
        available: rows of a split before its size limit.
    """

    rows: Mapping[str, Rows]
    overlapping: Mapping[str, int]
    available: Mapping[str, int]


def make_splits(sources: Mapping[str, Rows], spec: TaskSpec) -> Splits:
    """Carve what the source lacks from train, drop shared documents from the later split, apply the size limits.

    Carving and dropping come before the size limits, and each has draws of its own, so that neither validation
    nor test depends on ``train_size``.

    Args:
        sources: rows of train, and of validation and test where the source has them.

    Raises:
        ConfigError: a size that the data cannot give.
        HarnessError: an empty split, one class only, or a class that train lacks.
    """
    rows, dropped = dict(sources), dict.fromkeys(ROLES, 0)
    for role in ("test", "validation"):
        if role not in rows:
            rows["train"], rows[role], dropped[role] = _carve(rows["train"], role, spec)
    seen: set[bytes] = set()
    for role in ROLES:
        documents = rows[role].documents()
        kept = [i for i, document in enumerate(documents) if document not in seen]
        dropped[role] += len(documents) - len(kept)
        rows[role] = rows[role].take(kept)
        seen.update(documents)
    available = {role: len(rows[role]) for role in ROLES}
    _check(rows, spec)
    limited = {role: _limit(rows[role], role, spec) for role in ROLES}
    return Splits(limited, dropped, available)


def allocate(counts: Sequence[int], total: int, least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Share `total` out over strata in proportion to `counts`, by largest remainder within [least, most].

    Ties go to the earlier stratum. The sum is exactly `total`, which must lie in [sum(least), sum(most)].
    """
    if not sum(least) <= total <= sum(most):
        raise ValueError(f"{total} is outside [{sum(least)}, {sum(most)}]")
    whole = sum(counts)
    share = [min(max(total * n // whole, lo), hi) for n, lo, hi in zip(counts, least, most, strict=True)]
    while gap := total - sum(share):
        step = 1 if gap > 0 else -1
        open_strata = [i for i in range(len(share)) if least[i] <= share[i] + step <= most[i]]
        # total * n - share * whole is the exact remainder, in units of 1 / whole
        best = max(open_strata, key=lambda i: (step * (total * counts[i] - share[i] * whole), -i))
        share[best] += step
    return share


def strata_of(rows: Rows, spec: TaskSpec) -> list[str]:
    """The class of each row; one stratum for tasks without classes."""
    return [str(target) for target in rows.targets] if spec.kind == "classification" else [""] * len(rows)


def _carve(pool: Rows, role: str, spec: TaskSpec) -> tuple[Rows, Rows, int]:
    """Hold out whole documents: (what stays in train, held-out rows, copies of held-out documents left out).

    The last document of a class stays in train, else its label would be unknown there; so does a document that
    occurs with several labels.
    """
    documents, strata = pool.documents(), strata_of(pool, spec)
    candidates = _candidates(documents, strata)
    counts = Counter(strata[i] for i in candidates)
    room = counts.total() - len(counts)
    size = getattr(spec, f"{role}_size") or max(1, round(len(candidates) / 10))
    if room < 1:
        raise ConfigError(
            "task.path", spec.path, f"data with more examples: train has {len(candidates)} documents of its own, and "
            f"{'two of some class' if spec.kind == 'classification' else 'two'} are needed to hold out a {role} split; "
            f"or name task.{role}_split"
        )  # fmt: skip
    if size > room:
        raise ConfigError(
            f"task.{role}_size", size, f"at most {room}, as train has {len(candidates)} documents of its own and must "
            f"keep one {'of each class' if spec.kind == 'classification' else 'at least'}"
        )  # fmt: skip
    most = {name: n - 1 for name, n in counts.items()}
    held = _stratified(candidates, strata, size, most=most, draw=generator("carve", role, spec.split_seed))
    keys = {documents[i] for i in held}
    stays = [i for i, document in enumerate(documents) if document not in keys]
    return pool.take(stays), pool.take(held), len(pool) - len(stays) - len(held)


def _candidates(documents: Sequence[bytes], strata: Sequence[str]) -> list[int]:
    """First row of each document that has one label only."""
    first: dict[bytes, int] = {}
    ambiguous = set()
    for i, document in enumerate(documents):
        if strata[first.setdefault(document, i)] != strata[i]:
            ambiguous.add(document)
    return [i for document, i in first.items() if document not in ambiguous]


def _limit(rows: Rows, role: str, spec: TaskSpec) -> Rows:
    size = getattr(spec, f"{role}_size")
    if size is None or size >= len(rows):
        return rows
    strata = strata_of(rows, spec)
    least = dict.fromkeys(strata, 1) if role == "train" else {}
    if size < len(least):
        raise ConfigError("task.train_size", size, f"at least {len(least)}, the number of classes, or null for all")
    draw = generator("limit", role, spec.split_seed)
    return rows.take(_stratified(range(len(rows)), strata, size, least=least, draw=draw))


def _stratified(
    candidates: Sequence[int],
    strata: Sequence[str],
    size: int,
    *,
    draw: torch.Generator,
    least: Mapping[str, int] | None = None,
    most: Mapping[str, int] | None = None,
) -> list[int]:
    """`size` of the candidates, in source order, each stratum in proportion."""
    members: dict[str, list[int]] = {name: [] for name in sorted({strata[i] for i in candidates})}
    for i in torch.randperm(len(candidates), generator=draw).tolist():
        members[strata[candidates[i]]].append(candidates[i])
    counts = [len(drawn) for drawn in members.values()]
    low = [(least or {}).get(name, 0) for name in members]
    high = [(most or {}).get(name, len(drawn)) for name, drawn in members.items()]
    shares = allocate(counts, size, low, high)
    return sorted(i for drawn, share in zip(members.values(), shares, strict=True) for i in drawn[:share])


def _check(rows: Mapping[str, Rows], spec: TaskSpec) -> None:
    for role in ROLES:
        if not len(rows[role]):
            raise HarnessError(
                f"The {role} split of {spec.path} is empty: all of its documents occur in an earlier split as well."
            )
    if spec.kind != "classification":
        return
    known = set(strata_of(rows["train"], spec))
    if len(known) == 1:
        raise HarnessError(
            f"All examples in the train split of {spec.path} have the same {spec.label}, {known.pop()!r}; a "
            "classification task needs at least two classes."
        )
    for role in ROLES[1:]:
        unknown = sorted(set(strata_of(rows[role], spec)) - known)
        if unknown:
            more = f" and {len(unknown) - MAX_LISTED} more" if len(unknown) > MAX_LISTED else ""
            raise HarnessError(
                f"The {role} split of {spec.path} has labels that train never shows: "
                f"{', '.join(unknown[:MAX_LISTED])}{more}. A class has to occur in train to be learnt; remove "
                "those rows, or use another split."
            )
