"""Compose configs: of one cell for entries that have no sweeps, and of all cells of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import filter_overrides
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from src.config.axes import check_axes
from src.config.cells import Cell
from src.config.grid import Grid
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


def compose_cells(loader: ConfigLoader, sweep: DictConfig, jobs: Sequence[Sequence[str]]) -> list[Cell]:
    """The cells of a sweep.

    Args:
        sweep: config of the sweep as a whole.
        jobs: overrides of each cell.

    Raises:
        hydra.errors.HydraException: as `compose_config`, for the first cell that cannot be composed.
    """

    def compose_one(overrides: list[str]) -> DictConfig:
        config = loader.load_sweep_config(sweep, overrides)
        with open_dict(config):
            del config["hydra"]
        return config

    grid = Grid(compose_one, loader.list_groups(""))
    return [Cell(name, grid.cell(job)) for name, job in zip(_names(jobs), jobs, strict=True)]


def compose_sweep(overrides: Sequence[str]) -> list[Cell]:
    """The cells that ``python -m src.train -m`` would run with these overrides.

    Raises:
        hydra.errors.HydraException: as `compose_config`.
    """
    register()
    with initialize_config_dir(config_dir=str(CONF), version_base=VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        sweep = loader.load_configuration(NAME, list(overrides), RunMode.MULTIRUN)
        axes = [f"{key}={values}" for key, values in (sweep.hydra.sweeper.params or {}).items()]
        parsed = OverridesParser.create(loader).parse_overrides([*axes, *overrides])
        check_axes(parsed)
        (jobs,) = BasicSweeper.split_arguments(parsed, None)
        return compose_cells(loader, sweep, jobs)


def _names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Overrides by which a cell differs from the others, or all of them where there is only one cell."""
    shared = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [" ".join(text for text in filter_overrides(job) if text not in shared) for job in jobs]
