"""Scores of weighted examples, many weightings at once; with weights 1 they are the usual ones.

Each function takes what was said of n examples and returns a `Statistic`: weights [b, n] to scores [b], NaN where a
score is undefined. Definitions follow scikit-learn and SciPy.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from src.statistics.bootstrap import Array, Statistic


def ratio(numerator: Array, denominator: Array) -> Statistic:
    """Sum of one quantity [n] over the sum of another [n], such as nats over tokens."""

    def score(weights: Array) -> Array:
        return _divide(weights @ numerator, weights @ denominator)

    return score


def mean_of(values: Array) -> Statistic:
    """Of one value [n] for each example."""
    return ratio(values, np.ones_like(values))


def exp_of(statistic: Statistic) -> Statistic:
    """Perplexity from a mean loss; infinite beyond float64."""

    def score(weights: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.exp(statistic(weights))

    return score


def f1(prediction: Array, target: Array) -> Statistic:
    """Of class 1; undefined where it occurs in neither."""
    both = ((prediction == 1) & (target == 1)).astype(np.float64)
    either = (prediction == 1).astype(np.float64) + (target == 1)
    return ratio(2 * both, either)


def macro_f1(prediction: Array, target: Array) -> Statistic:
    """Mean of F1 over the classes that occur in predictions or targets of a resample."""
    classes = _Classes(prediction, target)

    def score(weights: Array) -> Array:
        hits, predicted, true = classes.counts(weights)
        occurs = predicted + true > 0
        each = np.divide(2 * hits, predicted + true, out=np.zeros_like(hits), where=occurs)
        mean: Array = each.sum(axis=0) / occurs.sum(axis=0)
        return mean

    return score


def matthews(prediction: Array, target: Array) -> Statistic:
    """Matthews' correlation of several classes: 0 for constant predictions, undefined for one true class."""
    classes = _Classes(prediction, target)

    def score(weights: Array) -> Array:
        hits, predicted, true = classes.counts(weights)
        total = weights.sum(axis=1)
        covariance = hits.sum(axis=0) * total - (predicted * true).sum(axis=0)
        spread_predicted = total**2 - (predicted**2).sum(axis=0)
        spread_true = total**2 - (true**2).sum(axis=0)
        product = np.sqrt(spread_predicted * spread_true)
        value = np.divide(covariance, product, out=np.zeros_like(covariance), where=product > 0)
        return np.where(spread_true > 0, value, np.nan)

    return score


def pearson(x: Array, y: Array) -> Statistic:
    """Undefined where either is constant."""
    x, y = x - x.mean(), y - y.mean()
    return lambda weights: _correlation(weights, x[None], y[None])


def spearman(x: Array, y: Array) -> Statistic:
    """Pearson's correlation of ranks within the resample; ties share their mean rank."""
    ranks_of_x, ranks_of_y = _Ranks(x), _Ranks(y)
    return lambda weights: _correlation(weights, ranks_of_x(weights), ranks_of_y(weights))


class _Classes:
    """One-hot rows [classes, n] of hits, predictions and targets; sparse, as there may be many classes."""

    def __init__(self, prediction: Array, target: Array) -> None:
        names, ids = np.unique(np.concatenate([prediction, target]), return_inverse=True)
        predicted, true = np.split(ids, 2)
        self.one_hot = [
            _one_hot(true, (predicted == true).astype(np.float64), len(names)),
            _one_hot(predicted, np.ones(len(true)), len(names)),
            _one_hot(true, np.ones(len(true)), len(names)),
        ]

    def counts(self, weights: Array) -> list[Array]:
        """Hits, predictions and targets of each class [classes, b]."""
        columns = np.ascontiguousarray(weights.T)
        return [np.asarray(rows @ columns) for rows in self.one_hot]


class _Ranks:
    """Ranks of x [n] within a resample [b, n]."""

    def __init__(self, x: Array) -> None:
        self.order = np.argsort(x, kind="stable")
        _, self.group, sizes = np.unique(x, return_inverse=True, return_counts=True)
        self.starts = np.cumsum(sizes) - sizes

    def __call__(self, weights: Array) -> Array:
        counts = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        ranks = np.cumsum(counts, axis=1) - counts + (counts + 1) / 2
        centred: Array = ranks[:, self.group] - weights.shape[1] / 2
        return centred


def _one_hot(ids: np.ndarray, values: Array, num_classes: int) -> csr_array:
    return csr_array((values, (ids, np.arange(len(ids)))), shape=(num_classes, len(ids)))


def _correlation(weights: Array, x: Array, y: Array) -> Array:
    """Of x and y, [b, n] or [1, n]."""
    total = weights.sum(axis=1)

    def mean(values: Array) -> Array:
        weighted: Array = (weights * values).sum(axis=1) / total
        return weighted

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    defined = (variance_x > 1e-12 * mean(x * x)) & (variance_y > 1e-12 * mean(y * y))
    product = np.sqrt(np.where(defined, variance_x * variance_y, np.nan))
    return (mean(x * y) - mean_x * mean_y) / product


def _divide(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)
