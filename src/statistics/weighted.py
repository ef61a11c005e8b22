"""Scores of weighted examples, many weightings at once; with weights 1 they are the usual ones.

Each function takes what was said of n examples and returns a `Statistic`: weights [b, n] to scores [b], NaN where a
score is undefined. Definitions follow scikit-learn and SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from scipy.sparse import csr_array

from src.statistics.bootstrap import Array, Statistic

# Elements of a matrix of float64 that fits into the cache of one processor core, with some others beside it.
CACHED = 1 << 14


@dataclass(frozen=True, eq=False)
class Ratio:
    """Sum of one quantity [n] over the sum of another [n], such as nats over tokens."""

    numerator: Array
    denominator: Array

    def __call__(self, weights: Array) -> Array:
        return _divide(weights @ self.numerator, weights @ self.denominator)


def ratio(numerator: Array, denominator: Array) -> Ratio:
    """Sum of one quantity [n] over the sum of another [n], such as nats over tokens."""
    return Ratio(numerator, denominator)


def mean_of(values: Array) -> Ratio:
    """Of one value [n] for each example."""
    return Ratio(values, np.broadcast_to(1.0, values.shape))


class ByClass:
    """A score of hits, predictions and targets by class, each [classes, b].

    Only targets are counted in full, once for all statistics that share them; the others follow from the errors, which
    are fewer. All are whole numbers, so no digit is lost.
    """

    def __init__(self, prediction: Array, target: Array, score: Callable[[Array, Array, Array], Array]) -> None:
        names, ids = np.unique(np.concatenate([prediction, target]), return_inverse=True)
        predicted, true = np.split(ids, 2)
        wrong = np.flatnonzero(predicted != true)
        shape = len(names), len(true)
        self.true = _one_hot(true, np.arange(len(true)), shape)
        self.missed, self.mistaken = (_one_hot(own[wrong], wrong, shape) for own in (true, predicted))
        self.targets = sha256(true.tobytes() + names.tobytes()).digest()
        self.score = score

    def __call__(self, weights: Array) -> Array:
        columns = np.ascontiguousarray(weights.T)
        return self.of(columns, self.true @ columns)

    def of(self, columns: Array, true: Array) -> Array:
        """The score [b] from weights [n, b] and how often each class is the target [classes, b]."""
        hits = true - self.missed @ columns
        return self.score(hits, hits + self.mistaken @ columns, true)


class Jointly:
    """Many statistics of the same examples, at less work than one after the other and with the same values.

    Sums of whole numbers, such as of hits, are exact in any order: those of all ratios are one matrix product. Other
    sums would differ in the last digit and stay as they are. A denominator that several share is summed once.
    """

    def __init__(self, statistics: Sequence[Statistic]) -> None:
        self.statistics = statistics
        columns: dict[bytes, Array] = {}
        self._parts: dict[int, list[bytes]] = {}
        for place, statistic in enumerate(statistics):
            if isinstance(statistic, Ratio):
                parts = {sha256(part.tobytes()).digest(): part for part in (statistic.numerator, statistic.denominator)}
                self._parts[place] = list(parts)
                columns |= parts
        whole = {key: column for key, column in columns.items() if (column == np.rint(column)).all()}
        self._rest = {key: column for key, column in columns.items() if key not in whole}
        self._whole = list(whole)
        self._stacked = np.stack(list(whole.values())) if whole else None
        self._targets = {
            statistic.targets: statistic.true for statistic in statistics if isinstance(statistic, ByClass)
        }

    def __call__(self, weights: Array) -> list[Array]:
        """Of weights [b, n], in the order of the statistics."""
        sums = {key: weights @ column for key, column in self._rest.items()}
        if self._stacked is not None:
            sums |= zip(self._whole, self._stacked @ weights.T, strict=True)
        columns = np.ascontiguousarray(weights.T) if self._targets else weights
        true = {key: one_hot @ columns for key, one_hot in self._targets.items()}
        found = []
        for place, statistic in enumerate(self.statistics):
            if place in self._parts:
                keys = self._parts[place]
                found.append(_divide(sums[keys[0]], sums[keys[-1]]))
            elif isinstance(statistic, ByClass):
                found.append(statistic.of(columns, true[statistic.targets]))
            else:
                found.append(statistic(weights))
        return found


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

    def score(hits: Array, predicted: Array, true: Array) -> Array:
        occurs = predicted + true > 0
        each = np.divide(2 * hits, predicted + true, out=np.zeros_like(hits), where=occurs)
        mean: Array = each.sum(axis=0) / occurs.sum(axis=0)
        return mean

    return ByClass(prediction, target, score)


def matthews(prediction: Array, target: Array) -> Statistic:
    """Matthews' correlation of several classes: 0 for constant predictions, undefined for one true class."""

    def score(hits: Array, predicted: Array, true: Array) -> Array:
        total = true.sum(axis=0)
        covariance = hits.sum(axis=0) * total - (predicted * true).sum(axis=0)
        spread_predicted = total**2 - (predicted**2).sum(axis=0)
        spread_true = total**2 - (true**2).sum(axis=0)
        product = np.sqrt(spread_predicted * spread_true)
        value = np.divide(covariance, product, out=np.zeros_like(covariance), where=product > 0)
        return np.where(spread_true > 0, value, np.nan)

    return ByClass(prediction, target, score)


def pearson(x: Array, y: Array) -> Statistic:
    """Undefined where either is constant."""
    x, y = x - x.mean(), y - y.mean()
    return lambda weights: _in_cache(weights, lambda rows: _correlation(rows, x[None], y[None]))


def spearman(x: Array, y: Array) -> Statistic:
    """Pearson's correlation of ranks within the resample; ties share their mean rank."""
    ranks_of_x, ranks_of_y = _Ranks(x), _Ranks(y)
    return lambda weights: _in_cache(weights, lambda rows: _correlation(rows, ranks_of_x(rows), ranks_of_y(rows)))


def _in_cache(weights: Array, score: Statistic) -> Array:
    """`score` over few rows at a time, so that what it computes on the way stays in the processor's cache."""
    step = max(1, CACHED // weights.shape[1])
    return np.concatenate([score(weights[start : start + step]) for start in range(0, len(weights), step)])


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


def _one_hot(ids: np.ndarray, examples: np.ndarray, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(ids)), (ids, examples)), shape=shape)


def _correlation(weights: Array, x: Array, y: Array) -> Array:
    """Of x and y, [b, n] or [1, n]."""
    total = weights.sum(axis=1)

    def mean(values: Array) -> Array:
        weighted: Array = (weights * values).sum(axis=1) / total
        return weighted

    mean_x, mean_y, square_x, square_y = mean(x), mean(y), mean(x * x), mean(y * y)
    variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
    defined = (variance_x > 1e-12 * square_x) & (variance_y > 1e-12 * square_y)
    product = np.sqrt(np.where(defined, variance_x * variance_y, np.nan))
    return (mean(x * y) - mean_x * mean_y) / product


def _divide(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)
