from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from src.statistics import PairedTest, Spread, paired_test, pooled_spread


def outcome(differences: list[float], margin: float = 0.01, pooled: Spread | None = None) -> PairedTest:
    test = paired_test(differences, margin=margin, level=0.05, pooled=pooled)
    assert test is not None
    return test


def test_scipy_agrees() -> None:
    ours, theirs = np.random.default_rng(0).normal(0.9, 0.01, (2, 5))
    test = outcome(list(ours - theirs))
    both = scipy.stats.ttest_rel(ours, theirs)
    inferior = scipy.stats.ttest_1samp(ours - theirs, -0.01, alternative="greater")
    assert test.interval is not None
    assert (test.interval.low, test.interval.high) == pytest.approx(tuple(both.confidence_interval()))
    assert (test.p, test.p_inferior) == pytest.approx((both.pvalue, inferior.pvalue))
    assert (test.mean, test.pairs) == (pytest.approx(np.mean(ours - theirs)), 5)


def test_one_pair_is_no_test() -> None:
    assert paired_test([0.1], margin=0.01, level=0.05) is None
    assert paired_test([], margin=0.01, level=0.05) is None


def test_equal_differences_prove_no_more_than_their_signs_do() -> None:
    """A spread of 0 would make p 0, and two accuracies differ by the same number of examples often enough."""
    two, five = outcome([0.002] * 2), outcome([-0.002] * 5)
    assert (two.p, two.p_inferior, two.interval) == (1 / 2, 1 / 4, None)
    assert (five.p, five.p_inferior) == (1 / 16, 1 / 32)
    assert (outcome([0.0] * 5).p, outcome([0.0] * 5).p_inferior) == (1.0, 1 / 32)
    assert outcome([-0.01] * 5).p_inferior == 1.0
    assert outcome([0.0] * 5, margin=0.0).p_inferior == 1.0
    assert outcome([0.912 - 0.902, 0.011 - 0.001]).p == 1 / 2


def test_the_pooled_spread_is_the_mean_over_all_pairs() -> None:
    scores = np.random.default_rng(1).normal([0.7, 0.8, 0.9], 0.01, (4, 3))
    pooled = pooled_spread(scores)
    variances = [np.var(a - b, ddof=1) for a, b in combinations(scores, 2)]
    assert pooled is not None
    assert (pooled.variance, pooled.freedom) == (pytest.approx(np.mean(variances)), 6)


def test_two_configurations_have_no_one_to_pool_with() -> None:
    first, second = scores = np.random.default_rng(2).normal(0.9, 0.01, (2, 4))
    pooled, plain = outcome(list(first - second), pooled=pooled_spread(scores)), outcome(list(first - second))
    assert (pooled.p, pooled.p_inferior) == pytest.approx((plain.p, plain.p_inferior))


def test_a_noisy_pair_keeps_its_own_spread() -> None:
    differences = [0.01, -0.02, 0.06]
    assert outcome(differences, pooled=Spread(1e-6, 2)) == outcome(differences)
    assert outcome(differences, pooled=Spread(1.0, 2)).p > outcome(differences).p


def test_a_pooled_spread_stands_in_for_one_that_is_0_by_chance() -> None:
    test = outcome([0.002] * 3, pooled=Spread(3e-4, 6))
    assert test.p == pytest.approx(2 * scipy.stats.t.sf(0.2, 6))
    assert test.interval is not None


def test_nothing_to_pool() -> None:
    assert pooled_spread([]) is None
    assert pooled_spread([[0.9, 0.8, 0.7]]) is None
    assert pooled_spread([[0.9], [0.8]]) is None
    assert pooled_spread([[0.9, 0.8], [0.7, 0.6]]) is None


def test_the_error_rate_at_the_margin_is_the_level() -> None:
    draws = np.random.default_rng(3).normal(-0.01, 0.005, (3000, 4))
    claimed = np.mean([outcome(row).p_inferior < 0.05 for row in draws])
    assert claimed == pytest.approx(0.05, abs=3 * (0.05 * 0.95 / 3000) ** 0.5)
