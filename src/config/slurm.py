"""The group slurm of a config to a SlurmSpec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from src.errors import ConfigError
from src.spec import FrozenMap, SlurmSpec
from src.spec.slurm import ALLOWED_SETUP

ALLOWED_EXTRA = "{option: value, ...} with long options of sbatch and a text, a number or true for each; or null"


def to_slurm(values: Mapping[str, Any]) -> SlurmSpec:
    """Raises:
    ConfigError: ``setup`` is not a list of texts, or ``extra`` not a mapping of texts, numbers and true.
    """
    setup, extra = values["setup"], values["extra"]
    # An interpolation may bring anything.
    if not isinstance(setup, list) or not all(isinstance(line, str) for line in setup):
        raise ConfigError("slurm.setup", setup, ALLOWED_SETUP)
    return SlurmSpec(**{**values, "setup": tuple(setup), "extra": None if extra is None else _texts(extra)})


def _texts(extra: Any) -> FrozenMap[str]:
    good = isinstance(extra, Mapping) and all(isinstance(value, (str, int, float)) for value in extra.values())
    if not good or any(value is False for value in extra.values()):
        raise ConfigError("slurm.extra", extra, ALLOWED_EXTRA)
    return FrozenMap({str(name): "true" if value is True else str(value) for name, value in extra.items()})
