"""Compose the config for entries that have no sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from src.config.schema import register

CONF = Path(__file__).parents[2] / "conf"
NAME = "config"
# Hydra's behaviour is that of this version, whichever is installed.
VERSION_BASE = "1.3"


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """The config that ``python -m src.train`` would run with these overrides.

    Raises:
        hydra.errors.HydraException: an unknown key or option, a wrong type, a list of values.
    """
    register()
    with initialize_config_dir(config_dir=str(CONF), version_base=VERSION_BASE):
        return compose(NAME, overrides=list(overrides))
