"""A margin in a metric's own unit, as the settings and the command lines take it."""

from __future__ import annotations

import argparse
import math

ALLOWED_MARGIN = "a number of at least 0"


def is_margin(value: float) -> bool:
    """Whether it is finite and at least 0."""
    return 0 <= value < math.inf


def margin(text: str) -> float:
    """For argparse's ``type``.

    Raises:
        argparse.ArgumentTypeError: not a margin.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not is_margin(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; {ALLOWED_MARGIN}, such as 0.01, is")
    return value
