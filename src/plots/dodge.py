"""Points of nearly the same size side by side, so that none hides another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import isotonic_regression

STEP = 0.013  # of the axis' length
MOST = 0.5  # of the axis' length, for all steps together


def side_by_side(sizes: Sequence[int]) -> list[float]:
    """Where points stand on a logarithmic axis: as near their sizes as a least distance between neighbours allows.

    Least squares under that constraint is isotonic regression of what is left once the distances are taken off. Points
    that are far enough apart stay where they are; equal ones stand in the order given.

    Args:
        sizes: above 0.
    """
    logs = np.log10(np.array(sizes, dtype=np.float64))
    order = np.argsort(logs, kind="stable")
    step = float(logs.max() - logs.min()) * min(STEP, MOST / len(sizes))
    offsets = step * np.arange(len(sizes))
    placed = np.empty_like(logs)
    placed[order] = isotonic_regression(logs[order] - offsets).x + offsets
    return [float(value) for value in 10**placed]
