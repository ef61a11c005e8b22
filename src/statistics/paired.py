"""Tests of paired differences: whether there is one, and whether it is worse than a margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from src.statistics.interval import ROUNDING, Interval, all_equal, finite_array

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """How far the difference of two configurations moves from seed to seed.

    Attributes:
        variance: of one seed's difference.
        freedom: degrees of freedom of that estimate.
    """

    variance: float
    freedom: int


@dataclass(frozen=True)
class PairedTest:
    """Paired differences, one minus the other; positive is better.

    Attributes:
        mean: in the unit of the values.
        pairs: how many.
        interval: t interval of the mean; None where there is no spread to make one from.
        p: two-sided, of mean 0.
        p_inferior: one-sided, of a mean of -margin or less; small means not inferior by the margin.
    """

    mean: float
    pairs: int
    interval: Interval | None
    p: float
    p_inferior: float


def pooled_spread(scores: Sequence[Sequence[float]]) -> Spread | None:
    """The spread common to all pairs of configurations: twice the residual variance of configuration + seed.

    It is the mean over all pairs of the variance of their differences, with (k - 1)(n - 1) degrees of freedom where
    one pair alone has n - 1.

    Args:
        scores: [k, n], configurations by seeds.

    Returns:
        None for fewer than two configurations or seeds, and where nothing varies.

    Raises:
        ValueError: a score is not finite.
    """
    table = np.array([finite_array(row) for row in scores])
    if table.ndim != 2 or min(table.shape) < 2:
        return None
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    if np.abs(residual).max() <= ROUNDING * max(1.0, float(np.abs(table).max())):
        return None
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return Spread(2 * float((residual**2).sum()) / freedom, freedom)


def paired_test(
    differences: Sequence[float], *, margin: float, level: float, pooled: Spread | None = None
) -> PairedTest | None:
    """Student's paired t test against 0, and one-sided against -margin (non-inferiority).

    With two or three seeds one pair's own variance is worth little, and corrected for several configurations hardly
    any difference would show. With `pooled` the larger of both variances counts, with the pooled degrees of freedom:
    a pair that is noisier than the others is not judged by their calm.

    Differences that are all equal have no spread, and t is 0 / 0 or infinite; scores are fractions of a few thousand
    examples, so two or three equal differences do happen by chance. Without a pooled spread the sign-flip test stands
    in, which needs none: under symmetry about 0 all n signs agree with probability 2^(1 - n), one given sign with 2^-n.
    Those are the p values then (1 for a mean of 0, or of -margin or less).

    Args:
        differences: [n].
        margin: at least 0, in the unit of the values.
        level: of the interval's error, 0.05 for a 95 % interval.

    Returns:
        None for fewer than two pairs.

    Raises:
        ValueError: a difference is not finite.
    """
    sample = finite_array(differences)
    if len(sample) < 2:
        return None
    if pooled is None and all_equal(sample):
        return _sign_flip(float(sample.mean()), len(sample), margin)
    own = Spread(float(sample.var(ddof=1)), len(sample) - 1)
    spread = own if pooled is None else Spread(max(own.variance, pooled.variance), pooled.freedom)
    return _t_test(float(sample.mean()), len(sample), spread, margin, level)


def two_sided(differences: Array, *, pooled: Spread | None = None) -> tuple[Array, Array]:
    """Mean and two-sided p of `paired_test` for many samples, equal to its own to the last digit.

    Args:
        differences: [m, n], finite, n of at least 2.

    Returns:
        Two arrays [m].
    """
    rows = np.ascontiguousarray(differences)
    pairs = rows.shape[1]
    mean, variance = rows.mean(axis=1), rows.var(axis=1, ddof=1)
    if pooled is not None:
        return mean, _two_sided(mean, np.maximum(variance, pooled.variance), pairs, pooled.freedom)
    spread = np.ptp(rows, axis=1) > ROUNDING * np.maximum(1.0, np.abs(rows).max(axis=1))
    p = np.where(np.abs(mean) <= ROUNDING, 1.0, 2.0 ** (1 - pairs))
    p[spread] = _two_sided(mean[spread], variance[spread], pairs, pairs - 1)
    return mean, p


def _two_sided(mean: Array, variance: Array, pairs: int, freedom: int) -> Array:
    # Python's power and NumPy's square root differ in the last digit of one number in a thousand.
    error = np.array([value**0.5 for value in (variance / pairs).tolist()])
    p: Array = 2 * stdtr(freedom, -np.abs(mean) / error)
    return p


def _t_test(mean: float, pairs: int, spread: Spread, margin: float, level: float) -> PairedTest:
    error = (spread.variance / pairs) ** 0.5
    half = float(stdtrit(spread.freedom, 1 - level / 2)) * error
    p = 2 * float(stdtr(spread.freedom, -abs(mean) / error))
    p_inferior = float(stdtr(spread.freedom, -(mean + margin) / error))
    return PairedTest(mean, pairs, Interval(mean - half, mean + half), p, p_inferior)


def _sign_flip(mean: float, pairs: int, margin: float) -> PairedTest:
    p = 1.0 if abs(mean) <= ROUNDING else 2.0 ** (1 - pairs)
    p_inferior = 1.0 if mean + margin <= ROUNDING else 2.0**-pairs
    return PairedTest(mean, pairs, None, p, p_inferior)
