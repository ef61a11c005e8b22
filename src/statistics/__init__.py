"""Intervals, tests and rankings: numbers in, numbers out; knows nothing of records."""

from src.statistics.bootstrap import Statistic, bootstrap_intervals, bootstrap_jointly
from src.statistics.interval import Interval, t_interval
from src.statistics.multiplicity import HolmFamily, holm, places
from src.statistics.paired import PairedTest, Spread, paired_test, pooled_spread, two_sided

__all__ = [
    "HolmFamily",
    "Interval",
    "PairedTest",
    "Spread",
    "Statistic",
    "bootstrap_intervals",
    "bootstrap_jointly",
    "holm",
    "paired_test",
    "places",
    "pooled_spread",
    "t_interval",
    "two_sided",
]
