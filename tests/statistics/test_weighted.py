"""Weighted scores are those of the resample written out: each example as often as its weight says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from src.statistics.bootstrap import Array, Statistic
from src.statistics.weighted import exp_of, f1, macro_f1, matthews, mean_of, pearson, ratio, spearman

RNG = np.random.default_rng(0)
NUM_EXAMPLES = 40
TARGET = RNG.integers(4, size=NUM_EXAMPLES).astype(np.float64)
PREDICTION = np.where(RNG.random(NUM_EXAMPLES) < 0.7, TARGET, RNG.integers(5, size=NUM_EXAMPLES)).astype(np.float64)
REAL = np.round(RNG.normal(size=NUM_EXAMPLES), 1)
CLOSE = np.round(REAL + RNG.normal(size=NUM_EXAMPLES), 1)
WEIGHTS = RNG.multinomial(NUM_EXAMPLES, np.full(NUM_EXAMPLES, 1 / NUM_EXAMPLES), size=30).astype(np.float64)


def written_out(of: Callable[[Array, Array], float], first: Array, second: Array) -> list[float]:
    times = WEIGHTS.astype(int)
    return [of(np.repeat(first, row), np.repeat(second, row)) for row in times]


@pytest.mark.parametrize(
    ("statistic", "of", "first", "second"),
    [
        (mean_of((PREDICTION == TARGET) * 1.0), sklearn.metrics.accuracy_score, PREDICTION, TARGET),
        (f1(PREDICTION % 2, TARGET % 2), lambda p, t: sklearn.metrics.f1_score(t, p), PREDICTION % 2, TARGET % 2),
        (
            macro_f1(PREDICTION, TARGET),
            lambda p, t: sklearn.metrics.f1_score(t, p, average="macro", zero_division=0),
            PREDICTION,
            TARGET,
        ),
        (matthews(PREDICTION, TARGET), sklearn.metrics.matthews_corrcoef, PREDICTION, TARGET),
        (pearson(REAL, CLOSE), lambda x, y: scipy.stats.pearsonr(x, y).statistic, REAL, CLOSE),
        (spearman(REAL, CLOSE), lambda x, y: scipy.stats.spearmanr(x, y).statistic, REAL, CLOSE),
        (mean_of((REAL - CLOSE) ** 2), sklearn.metrics.mean_squared_error, REAL, CLOSE),
        (ratio(REAL**2, TARGET + 1), lambda x, t: float(np.sum(x**2) / np.sum(t + 1)), REAL, TARGET),
        (exp_of(mean_of(REAL)), lambda x, _: float(np.exp(np.mean(x))), REAL, REAL),
    ],
    ids=["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "mse", "loss", "perplexity"],
)
def test_peers_agree(statistic: Statistic, of: Callable[[Array, Array], float], first: Array, second: Array) -> None:
    np.testing.assert_allclose(statistic(WEIGHTS), written_out(of, first, second), rtol=1e-10, atol=1e-12)


def test_a_resample_that_leaves_a_score_undefined_gives_nan() -> None:
    first = np.zeros((1, NUM_EXAMPLES))
    first[0, 0] = NUM_EXAMPLES
    assert np.isnan(pearson(REAL, CLOSE)(first))
    assert np.isnan(spearman(REAL, CLOSE)(first))
    assert np.isnan(matthews(PREDICTION, TARGET)(first))
    assert np.isnan(f1(np.zeros(NUM_EXAMPLES), np.zeros(NUM_EXAMPLES))(WEIGHTS)).all()


def test_constant_predictions_have_no_correlation_with_the_classes() -> None:
    assert (matthews(np.zeros(NUM_EXAMPLES), TARGET)(WEIGHTS) == 0).all()


def test_a_perplexity_beyond_all_numbers_is_infinite() -> None:
    assert np.isinf(exp_of(mean_of(np.full(NUM_EXAMPLES, 1000.0)))(WEIGHTS)).all()
