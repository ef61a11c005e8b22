"""Rows of the table `subspace`: which part of one adapter's directions lies in another's, in W0's or by chance."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from torch import Tensor

from src.adapters.projections import Projection
from src.analysis.pairs import find_pairs, first_seeds
from src.analysis.similarity import GRID, grid_up_to, phi, random_phi
from src.analysis.subjects import Subject
from src.analysis.tables import Row
from src.analysis.thin import Svd, all_right_vectors, delta_svds, nonzero

# Of each kind; about 5 MB of JSON. What no longer fits is left out pair by pair, and the notes name it.
MAX_ROWS = 24_000
COARSE = frozenset({1, 2, 4, 8, 16, 32, 64})
Directions = Mapping[str, Tensor]


@dataclass
class Overlap:
    """Collects rows kind by kind, up to MAX_ROWS of each.

    Attributes:
        rows: of the table.
        left_out: comparisons for which there was no room.
    """

    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    _sizes: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, name: str, rows: Sequence[Row]) -> None:
        """All rows of one comparison, or none of them where the kind has no room left; the first always fits."""
        size = self._sizes.get(kind, 0)
        if size and size + len(rows) > MAX_ROWS:
            self.left_out.append(name)
        else:
            self.rows += rows
            self._sizes[kind] = size + len(rows)


def compare(subjects: Sequence[Subject], svds: Mapping[str, Svd], overlap: Overlap) -> None:
    """Ranks, seeds, W0 itself, and letters of one run, for the subjects of one base."""
    directions = functools.cache(lambda index: _of_a(subjects[index]))
    starts = functools.cache(lambda index: _of_start(subjects[index]))
    places = {subject.name: index for index, subject in enumerate(subjects)}
    for kind, a, b in find_pairs(subjects):
        i, j = places[a.name], places[b.name]
        rows = list(_between(kind, a, b, (directions(i), directions(j)), (starts(i), starts(j))))
        overlap.add(kind, f"{kind}: {a.name} with {b.name}", rows)
    for subject in first_seeds(subjects):
        own = _of_delta(subject)
        overlap.add("base", f"base: {subject.name}", list(_with_base(subject, own, svds)))
        overlap.add("matrices", f"matrices: {subject.name}", list(_among_letters(subject, own)))


def _head(vectors: Tensor) -> Tensor:
    return vectors[:, : GRID[-1]]


def _of_a(subject: Subject) -> Directions:
    return _of_factors(subject.trained_a())


def _of_start(subject: Subject) -> Directions:
    return _of_factors(subject.starts())


def _of_factors(factors: Mapping[str, Tensor]) -> Directions:
    vectors = all_right_vectors(list(factors.values()))
    return {key: _head(own) for key, own in zip(factors, vectors, strict=True)}


def _of_delta(subject: Subject) -> Directions:
    deltas = delta_svds([subject.adapters[p.key] for p in subject.projections])
    return {p.key: _head(nonzero(delta).v) for p, delta in zip(subject.projections, deltas, strict=True)}


def _between(
    kind: str, a: Subject, b: Subject, trained: tuple[Directions, Directions], starts: tuple[Directions, Directions]
) -> Iterator[Row]:
    shared = [p for p in a.projections if p.key in b.adapters]
    for p in shared:
        first, second = trained[0][p.key], trained[1][p.key]
        begin = (starts[0].get(p.key), starts[1].get(p.key))
        yield from _grid((kind, a.name, b.name, p.letter, p.letter, p.layer), first, second, len(shared), begin)


def _with_base(subject: Subject, own: Directions, svds: Mapping[str, Svd]) -> Iterator[Row]:
    for p in subject.projections:
        labels = ("base", subject.name, None, p.letter, p.letter, p.layer)
        yield from _grid(labels, own[p.key], _head(svds[p.key].v), len(subject.projections))


def _among_letters(subject: Subject, own: Directions) -> Iterator[Row]:
    pairs = [(p, q) for p, q in combinations(subject.projections, 2) if _comparable(p, q)]
    for p, q in pairs:
        labels = ("matrices", subject.name, subject.name, p.letter, q.letter, p.layer)
        yield from _grid(labels, own[p.key], own[q.key], len(pairs))


def _comparable(p: Projection, q: Projection) -> bool:
    return p.layer == q.layer and p.d_in == q.d_in


def _grid(
    labels: Row,
    first: Tensor,
    second: Tensor,
    matrices: int,
    starts: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Iterator[Row]:
    """phi at every pair of sizes; at powers of two only where a whole grid for all matrices would fill the table."""
    rows, columns = grid_up_to(first.shape[1]), grid_up_to(second.shape[1])
    if not rows or not columns:
        return
    if matrices * len(rows) * len(columns) > MAX_ROWS // 2:
        rows, columns = (tuple(size for size in sizes if size in COARSE) for sizes in (rows, columns))
    values = phi(first, second, rows, columns).tolist()
    before = None
    if starts[0] is not None and starts[1] is not None:
        before = phi(starts[0], starts[1], rows, columns).tolist()
    for at, i in enumerate(rows):
        for to, j in enumerate(columns):
            start = None if before is None else round(before[at][to], 6)
            yield *labels, i, j, round(values[at][to], 6), round(random_phi(i, j, len(first)), 6), start
