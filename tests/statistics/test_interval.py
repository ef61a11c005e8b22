from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from src.statistics import t_interval


def test_scipy_agrees() -> None:
    values = [0.91, 0.93, 0.925, 0.9]
    expected = scipy.stats.t.interval(0.9, 3, np.mean(values), scipy.stats.sem(values))
    interval = t_interval(values, 0.1)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(expected)


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_the_interval_covers_the_truth_as_often_as_stated(num_seeds: int) -> None:
    draws = np.random.default_rng(num_seeds).normal(0.9, 0.01, (4000, num_seeds))
    intervals = [t_interval(row, 0.05) for row in draws]
    covered = np.mean([interval is not None and interval.low < 0.9 < interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 4000) ** 0.5)


@pytest.mark.parametrize("values", [[], [0.9], [0.9, 0.9, 0.9], [0.912 - 0.902, 0.01]])
def test_without_spread_there_is_no_interval(values: list[float]) -> None:
    assert t_interval(values, 0.05) is None


@pytest.mark.parametrize("missing", [float("nan"), float("inf")])
def test_what_is_missing_is_not_averaged_away(missing: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        t_interval([0.9, missing, 0.8], 0.05)
