"""Every pair of configurations tested against each other; thousands of configurations are millions of pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from src.statistics import HolmFamily, Spread, two_sided

Scores = Mapping[int, float]
Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AllPairs:
    """Two-sided paired t tests of j minus i, for all i < j that share two seeds.

    Attributes:
        p_holm_first: [k - 1], of each configuration but the first against the first, corrected over all pairs; NaN
            where they share fewer than two seeds.
        lower: for each i, for each j > i [k - i - 1]: whether j is shown to be worse than i.
    """

    p_holm_first: Array
    lower: tuple[Flags, ...]

    def worse(self, item: int, leader: int) -> bool:
        """Whether `item` is shown to be worse than `leader`, which comes before it."""
        return bool(self.lower[leader][item - leader - 1])


@dataclass(frozen=True)
class _Alike:
    """Configurations with the same seeds: their places, ascending [m], and scores [m, seeds]."""

    seeds: tuple[int, ...]
    places: npt.NDArray[np.int64]
    scores: Array


def all_pairs(scores: Sequence[Scores], pooled: Spread | None, sign: float, level: float) -> AllPairs:
    """Tests as by `paired_test`, corrected by Holm's method over all of them.

    Args:
        scores: by seed, for each configuration in the order of merit; at least one.
        pooled: spread, for pairs that both have the seeds of the first configuration.
        sign: -1 where lower scores are better.
        level: of the family-wise error.
    """
    groups = _groups(scores)
    rows = [_row(i, scores, groups, pooled, sign) for i in range(len(scores))]
    family = HolmFamily(np.concatenate([p[np.isfinite(p)] for _, p in rows]))
    lower = tuple((_corrected(family, p) < level) & negative for negative, p in rows)
    return AllPairs(_corrected(family, rows[0][1]), lower)


def _groups(scores: Sequence[Scores]) -> list[_Alike]:
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, own in enumerate(scores):
        places[tuple(sorted(own))].append(place)
    return [
        _Alike(seeds, np.array(own), np.array([[scores[place][seed] for seed in seeds] for place in own]))
        for seeds, own in places.items()
    ]


def _row(
    i: int, scores: Sequence[Scores], groups: Sequence[_Alike], pooled: Spread | None, sign: float
) -> tuple[Flags, Array]:
    """Of all j > i whether the mean is below 0, and p; NaN where fewer than two seeds are shared."""
    negative, p_values = np.zeros(len(scores) - i - 1, dtype=np.bool_), np.full(len(scores) - i - 1, np.nan)
    for alike in groups:
        columns = [column for column, seed in enumerate(alike.seeds) if seed in scores[i]]
        start = int(np.searchsorted(alike.places, i, side="right"))
        if len(columns) < 2 or start == len(alike.places):
            continue
        own = np.array([scores[i][alike.seeds[column]] for column in columns])
        both = scores[i].keys() == scores[0].keys() == set(alike.seeds)
        differences = sign * (alike.scores[start:, columns] - own)
        at = alike.places[start:] - i - 1
        mean, p_values[at] = two_sided(differences, pooled=pooled if both else None)
        negative[at] = mean < 0
    return negative, p_values


def _corrected(family: HolmFamily, p_values: Array) -> Array:
    found = np.full_like(p_values, np.nan)
    known = np.isfinite(p_values)
    found[known] = family.adjusted(p_values[known])
    return found
