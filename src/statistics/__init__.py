"""Intervals, tests and rankings: numbers in, numbers out; knows nothing of records."""

from src.statistics.bootstrap import Statistic, bootstrap_intervals
from src.statistics.interval import Interval, t_interval
from src.statistics.multiplicity import holm, places
from src.statistics.paired import PairedTest, Spread, paired_test, pooled_spread

__all__ = [
    "Interval",
    "PairedTest",
    "Spread",
    "Statistic",
    "bootstrap_intervals",
    "holm",
    "paired_test",
    "places",
    "pooled_spread",
    "t_interval",
]
