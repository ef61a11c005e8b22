"""The one type that every estimate shares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Both ends of a two-sided interval, in the unit of the estimate."""

    low: float
    high: float
