"""Percentile bootstrap over examples, for any statistic that can be had from example weights.

A resample is a row of weights: how often each example was drawn. All statistics see the same resamples, so that
several seeds, or several configurations, are scored on the same examples each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from src.statistics.interval import Interval

Array = npt.NDArray[np.float64]
# Weights [b, n], rows of which sum to n, to one value each [b]; NaN where a resample leaves it undefined.
Statistic = Callable[[Array], Array]
RESAMPLES = 4000
BLOCK_ELEMENTS = 1 << 20
LEAST_DEFINED = 0.95


def bootstrap_intervals(
    statistics: Sequence[Statistic], num_examples: int, *, level: float, seed: int, resamples: int = RESAMPLES
) -> list[Interval | None]:
    """`bootstrap_jointly` of statistics that have nothing to share but the resamples."""

    def scores(weights: Array) -> list[Array]:
        return [statistic(weights) for statistic in statistics]

    return bootstrap_jointly(scores, len(statistics), num_examples, level=level, seed=seed, resamples=resamples)


def bootstrap_jointly(
    scores: Callable[[Array], Sequence[Array]],
    num_scores: int,
    num_examples: int,
    *,
    level: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> list[Interval | None]:
    """Percentile intervals (Efron 1979), one for each score.

    scipy.stats.bootstrap draws and gathers anew for each statistic; here one draw serves all of them, and sums over
    examples become matrix products.

    Args:
        scores: of weights [b, n] as many arrays [b] as `num_scores`.
        num_examples: n.
        level: of the error, 0.05 for a 95 % interval.
        seed: of the draw.

    Returns:
        None with fewer than two examples, or where more than one resample in 20 leaves the score undefined.
    """
    if num_examples < 2:
        return [None] * num_scores
    generator = np.random.default_rng(seed)
    values = np.empty((num_scores, resamples))
    filled = 0
    for weights in _resamples(generator, num_examples, resamples):
        for row, score in zip(values, scores(weights), strict=True):
            row[filled : filled + len(weights)] = score
        filled += len(weights)
    return [_percentiles(own, level) for own in values]


def _resamples(generator: np.random.Generator, num_examples: int, resamples: int) -> Iterator[Array]:
    """Blocks of weights [b, n]."""
    rows = max(1, BLOCK_ELEMENTS // num_examples)
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        drawn = generator.integers(num_examples, size=(block, num_examples))
        drawn += num_examples * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * num_examples)
        yield counts.reshape(block, num_examples).astype(np.float64)


def _percentiles(values: Array, level: float) -> Interval | None:
    defined = values[np.isfinite(values)]
    if len(defined) < LEAST_DEFINED * len(values):
        return None
    low, high = np.quantile(defined, [level / 2, 1 - level / 2])
    return Interval(float(low), float(high))
