"""How many cells a sweep would have, counted before Hydra lists them all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep

from src.errors import ConfigError

MOST_CELLS = 1_000_000


def check_axes(overrides: Sequence[Override]) -> None:
    """Raises:
    ConfigError: more cells than MOST_CELLS, or a range without an end.
    """
    cells = 1
    for override in overrides:
        if override.is_sweep_override() and override.is_discrete_sweep():
            cells *= _length(override)
            if cells > MOST_CELLS:
                raise ConfigError("sweep", override.input_line, f"at most {MOST_CELLS:,} cells in one sweep")


def _length(override: Override) -> int:
    value = override.value()
    if isinstance(value, RangeSweep):
        start, stop, step = value.start or 0, value.stop or 0, value.step
        try:
            length = (stop - start) / step
            return max(1, math.ceil(length))
        except (ArithmeticError, ValueError) as error:
            raise ConfigError("sweep", override.input_line, "a range from a number to a larger one in steps") from error
    return len(value.list) if isinstance(value, ChoiceSweep) else 1
