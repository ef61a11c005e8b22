"""What is computed for many at once is what is computed for each, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest

from src.statistics import HolmFamily, Spread, bootstrap_intervals, bootstrap_jointly, holm, paired_test, two_sided
from src.statistics.bootstrap import Statistic
from src.statistics.weighted import Jointly, exp_of, f1, macro_f1, matthews, mean_of, pearson, ratio, spearman

RNG = np.random.default_rng(0)
NUM_EXAMPLES = 300


def statistics() -> list[Statistic]:
    """Of three runs on the same examples: classes, numbers, losses over tokens."""
    target, real = RNG.integers(5, size=NUM_EXAMPLES).astype(np.float64), RNG.normal(size=NUM_EXAMPLES)
    tokens = RNG.integers(1, 40, size=NUM_EXAMPLES).astype(np.float64)
    found: list[Statistic] = []
    for _ in range(3):
        drawn = RNG.integers(6, size=NUM_EXAMPLES)
        said = np.where(RNG.random(NUM_EXAMPLES) < 0.8, target, drawn).astype(np.float64)
        close, loss = real + RNG.normal(size=NUM_EXAMPLES), RNG.random(NUM_EXAMPLES) * tokens
        found += [mean_of((said == target).astype(np.float64)), f1(said % 2, target % 2), macro_f1(said, target)]
        found += [matthews(said, target), mean_of((close - real) ** 2), pearson(close, real), spearman(close, real)]
        found += [ratio(loss, tokens), exp_of(ratio(loss, tokens)), mean_of(tokens), ratio(tokens, tokens)]
    return found


def test_statistics_jointly_are_those_one_by_one() -> None:
    each = statistics()
    weights = RNG.multinomial(NUM_EXAMPLES, np.full(NUM_EXAMPLES, 1 / NUM_EXAMPLES), size=70).astype(np.float64)
    for joint, own in zip(Jointly(each)(weights), each, strict=True):
        np.testing.assert_array_equal(joint, own(weights))


def test_intervals_jointly_rest_on_the_same_draws() -> None:
    each = statistics()
    jointly = bootstrap_jointly(Jointly(each), len(each), NUM_EXAMPLES, level=0.05, seed=3, resamples=200)
    assert jointly == bootstrap_intervals(each, NUM_EXAMPLES, level=0.05, seed=3, resamples=200)


@pytest.mark.parametrize("pooled", [None, Spread(0.0003, 12)])
@pytest.mark.parametrize("pairs", [2, 3, 5, 8, 20])
def test_many_paired_tests_are_those_one_by_one(pairs: int, pooled: Spread | None) -> None:
    rows = RNG.normal(scale=0.02, size=(200, pairs)) * RNG.integers(0, 2, size=(200, 1)) + RNG.choice(
        [0.0, 0.01], size=(200, 1)
    )
    mean, p = two_sided(rows, pooled=pooled)
    for row, own_mean, own_p in zip(rows, mean, p, strict=True):
        test = paired_test(list(row), margin=0.01, level=0.05, pooled=pooled)
        assert test is not None and (test.mean, test.p) == (own_mean, own_p)


def test_a_family_looked_up_is_corrected_as_a_list_is() -> None:
    p_values = np.round(RNG.random(500), 2)
    np.testing.assert_array_equal(HolmFamily(p_values).adjusted(p_values), holm(list(p_values)))
