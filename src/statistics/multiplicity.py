"""Many comparisons at once: Holm's correction, and a ranking with ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values [m] in the given order (Holm, Scand. J. Statist. 6, 1979).

    Rejecting those below alpha keeps the probability of any false rejection at alpha or less, however the tests
    depend on each other.

    Raises:
        ValueError: a value outside [0, 1], or NaN.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"not p values: {p.tolist()}")
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty_like(p)
    adjusted[order] = steps
    return [float(value) for value in adjusted]


class HolmFamily:
    """`holm` of very many p values, which are then looked up: equal ones have equal adjusted values.

    Args:
        p_values: [m], in [0, 1].
    """

    def __init__(self, p_values: Array) -> None:
        self._sorted = np.sort(p_values)
        steps = self._sorted * np.arange(len(p_values), 0, -1)
        np.maximum.accumulate(steps, out=steps)
        self._adjusted = np.minimum(1.0, steps, out=steps)

    def adjusted(self, p_values: Array) -> Array:
        """Adjusted values [k] of members of the family [k]."""
        found: Array = self._adjusted[np.searchsorted(self._sorted, p_values)]
        return found


def places(count: int, worse: Callable[[int, int], bool]) -> list[int]:
    """Places of items 0 ... count - 1, which come in their order of merit; 1 for the first.

    An item joins the first group whose leader it is not shown to be worse than; the first item of a group leads it.

    Args:
        worse: whether the data show that the first item is worse than the second.
    """
    leaders: list[int] = []
    result = []
    for item in range(count):
        place = next((place for place, leader in enumerate(leaders, 1) if not worse(item, leader)), None)
        if place is None:
            leaders.append(item)
            place = len(leaders)
        result.append(place)
    return result
