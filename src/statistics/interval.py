"""Intervals: the type that every estimate shares, and Student's interval of a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

# Numbers closer than this, relative to their size, differ by rounding only.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """Both ends of a two-sided interval, in the unit of the estimate."""

    low: float
    high: float


def t_interval(values: Sequence[float], level: float) -> Interval | None:
    """Student's t interval of the mean of independent normal values [n].

    Args:
        level: of the error, so that 0.05 gives a 95 % interval.

    Returns:
        None for fewer than two values, and for values that are all equal: their spread says nothing about how far
        another one would lie, and an interval of width 0 would claim that it does.

    Raises:
        ValueError: a value is not finite.
    """
    sample = finite_array(values)
    if len(sample) < 2 or all_equal(sample):
        return None
    half = float(stdtrit(len(sample) - 1, 1 - level / 2) * sample.std(ddof=1)) / len(sample) ** 0.5
    return Interval(float(sample.mean()) - half, float(sample.mean()) + half)


def all_equal(sample: np.ndarray) -> bool:
    """Whether [n] values differ by rounding at most."""
    return bool(np.ptp(sample) <= ROUNDING * max(1.0, float(np.abs(sample).max())))


def finite_array(values: Sequence[float]) -> np.ndarray:
    """Raises:
    ValueError: a value is not finite; what is missing has to be left out, not passed as NaN.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not np.isfinite(sample).all():
        raise ValueError(f"values that are not finite: {sample.tolist()}")
    return sample
