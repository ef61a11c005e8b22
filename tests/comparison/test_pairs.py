from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from src.comparison.pairs import Scores, all_pairs
from src.statistics import Spread, holm, paired_test, pooled_spread

LEVEL = 0.05


def drawn(configurations: int, seeds: int, lost: float, sign: float) -> list[Scores]:
    """Scores in steps of 0.004, so that equal differences occur, some seeds of some configurations missing."""
    rng = np.random.default_rng(0)
    merit = -0.01 * sign * np.arange(configurations)
    scores = 0.8 + 0.004 * rng.integers(0, 6, size=(configurations, seeds)) + merit[:, None]
    missing = rng.random((configurations, seeds)) < lost
    missing[0] = False
    return [
        {seed: float(score) for seed, score in enumerate(row) if not missing[place, seed]}
        for place, row in enumerate(scores)
    ]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("seeds", "lost"), [(1, 0.0), (2, 0.0), (3, 0.3), (5, 0.2), (9, 0.1)])
def test_all_pairs_at_once_are_each_pair_by_itself(seeds: int, lost: float, sign: float) -> None:
    scores = drawn(12, seeds, lost, sign)
    pooled = pooled_spread([list(own.values()) for own in scores if len(own) == seeds])
    tests = {}
    for i, j in combinations(range(len(scores)), 2):
        shared = sorted(scores[i].keys() & scores[j].keys())
        alike = scores[i].keys() == scores[j].keys() == scores[0].keys()
        gains = [sign * (scores[j][seed] - scores[i][seed]) for seed in shared]
        test = paired_test(gains, margin=0.01, level=LEVEL, pooled=pooled if alike else None)
        if test is not None:
            tests[i, j] = test
    p_holm = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    found = all_pairs(scores, pooled, sign, LEVEL)
    first = [None if np.isnan(p) else float(p) for p in found.p_holm_first]
    assert first == [p_holm.get((0, j)) for j in range(1, len(scores))]
    for i, j in combinations(range(len(scores)), 2):
        assert found.worse(j, i) == ((i, j) in tests and p_holm[i, j] < LEVEL and tests[i, j].mean < 0)
    assert any(own.any() for own in found.lower) == (seeds > 1)


def test_one_configuration_has_no_pair() -> None:
    found = all_pairs([{0: 0.5, 1: 0.6}], Spread(1.0, 1), 1.0, LEVEL)
    assert len(found.p_holm_first) == 0
