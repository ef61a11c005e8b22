from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from src.statistics import Interval, bootstrap_intervals
from src.statistics.bootstrap import Array, Statistic
from src.statistics.weighted import mean_of, pearson


def interval_of(statistic: Statistic, num_examples: int, resamples: int = 4000, seed: int = 0) -> Interval:
    (interval,) = bootstrap_intervals([statistic], num_examples, level=0.05, seed=seed, resamples=resamples)
    assert interval is not None
    return interval


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, 1000)
    interval = interval_of(mean_of(values), 1000, resamples=20_000)
    half = 1.96 * values.std() / 1000**0.5
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)


def test_scipy_agrees_on_a_statistic_that_is_no_mean() -> None:
    x, y = np.random.default_rng(1).multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=150).T
    expected = scipy.stats.bootstrap(
        (x, y),
        lambda a, b, axis: scipy.stats.pearsonr(a, b, axis=axis).statistic,
        paired=True, vectorized=True, method="percentile", n_resamples=4000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    interval = interval_of(pearson(x, y), 150)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.015)


def test_the_interval_covers_the_truth_as_often_as_stated() -> None:
    """Each replication is an accuracy over 400 examples; the resamples are shared, as the examples are independent."""
    correct = np.random.default_rng(3).random((1000, 400)) < 0.9
    intervals = bootstrap_intervals(
        [mean_of(row.astype(np.float64)) for row in correct], 400, level=0.05, seed=0, resamples=1000
    )
    covered = np.mean([interval is not None and interval.low <= 0.9 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 1000) ** 0.5)


def test_all_statistics_see_the_same_resamples_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=60)
    alone = interval_of(mean_of(values), 60, resamples=100)
    drawn: list[Array] = []

    def watched(weights: Array) -> Array:
        drawn.append(weights)
        return mean_of(values)(weights)

    monkeypatch.setattr("src.statistics.bootstrap.BLOCK_ELEMENTS", 600)
    first, second = bootstrap_intervals([watched, mean_of(values)], 60, level=0.05, seed=0, resamples=100)
    assert first is not None
    assert first == second
    assert (first.low, first.high) == pytest.approx((alone.low, alone.high))
    assert [len(block) for block in drawn] == [10] * 10
    assert (np.concatenate(drawn).sum(axis=1) == 60).all()


def test_the_seed_decides() -> None:
    values = np.random.default_rng(5).normal(size=50)
    assert interval_of(mean_of(values), 50) == interval_of(mean_of(values), 50)
    assert interval_of(mean_of(values), 50) != interval_of(mean_of(values), 50, seed=1)


@pytest.mark.parametrize(("share", "known"), [(0.01, True), (0.2, False)])
def test_a_statistic_that_is_often_undefined_has_no_interval(share: float, known: bool) -> None:
    def sometimes(weights: Array) -> Array:
        undefined = np.arange(len(weights)) < share * len(weights)
        return np.where(undefined, np.nan, weights[:, 0])

    (interval,) = bootstrap_intervals([sometimes], 20, level=0.05, seed=0, resamples=1000)
    assert (interval is not None) == known


def test_one_example_is_no_sample() -> None:
    assert bootstrap_intervals([mean_of(np.ones(1))], 1, level=0.05, seed=0) == [None]
