"""Which adapters are held against each other.

Two ranks of one seed start from nested rows: A of r = 8 is drawn as the first eight rows of A of r = 64
(src/adapters/attach.py draws from one stream). Whatever training leaves of the start they share for that reason, so
ranks are also compared across two seeds where there are two, and those pairs come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, groupby, islice
from typing import Literal

from src.analysis.subjects import Subject

Kind = Literal["ranks", "seeds"]
Pair = tuple[Kind, Subject, Subject]
# For each configuration and rank; more seeds say nothing new about what chance gives.
SEED_PAIRS = 3


def find_pairs(subjects: Sequence[Subject]) -> list[Pair]:
    """Pairs of ranks (each against the largest of its configuration) and of seeds (same rank), ranks first."""
    families = _grouped(subjects)
    apart = [pair for family in families for pair in _rank_pairs(family, same_seed=False)]
    nested = [pair for family in families for pair in _rank_pairs(family, same_seed=True)]
    seeds = [pair for family in families for pair in _seed_pairs(family)]
    return [*apart, *nested, *seeds]


def first_seeds(subjects: Sequence[Subject]) -> list[Subject]:
    """One subject for each configuration and rank, the first; and all adapters from elsewhere."""
    first: dict[object, Subject] = {}
    for subject in subjects:
        key = subject.name if subject.candidate is None else (subject.configuration, subject.rank)
        first.setdefault(key, subject)
    return list(first.values())


def _grouped(subjects: Sequence[Subject]) -> list[list[Subject]]:
    """By configuration, in the order of their first members."""
    groups: dict[object, list[Subject]] = {}
    for subject in subjects:
        groups.setdefault(subject.configuration, []).append(subject)
    return list(groups.values())


def _rank_pairs(family: Sequence[Subject], *, same_seed: bool) -> Iterator[Pair]:
    """The first seed of each rank against the largest rank, of the same seed or of another one."""
    by_rank = _by_rank(family)
    for group in by_rank[1:]:
        lower = group[0]
        # Adapters from elsewhere have no known seed and count as of different ones.
        matches = (s for s in by_rank[0] if (lower.seed is not None and s.seed == lower.seed) == same_seed)
        yield from (("ranks", lower, match) for match in islice(matches, 1))


def _seed_pairs(family: Sequence[Subject]) -> Iterator[Pair]:
    for group in _by_rank(family):
        yield from (("seeds", a, b) for a, b in islice(combinations(group, 2), SEED_PAIRS))


def _by_rank(family: Sequence[Subject]) -> list[list[Subject]]:
    """Largest rank first; within a rank by seed."""
    ordered = sorted(family, key=lambda s: (-s.rank, s.seed or 0))
    return [list(group) for _, group in groupby(ordered, key=lambda s: s.rank)]
