"""The default sweeper leaves checks to a launcher that makes them, and makes them for all others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig

from src.config import register
from src.config.compose import CONF, NAME, VERSION_BASE
from src.errors import BadCellsError
from src.hydra_plugins.grid_sweeper import GridSweeper
from src.hydra_plugins.lanes_launcher import LanesLauncher

ROOT = Path(__file__).resolve().parents[2]


class Other(Launcher):
    """Starts nothing."""

    def setup(self, **_: Any) -> None: ...

    def launch(self, job_overrides: Any, initial_job_idx: int) -> list[Any]:
        return []


class Loader:
    """Hydra's own, and whether it was asked for cells."""

    def __init__(self, real: ConfigLoader) -> None:
        self.config_loader, self.real, self.asked = self, real, False

    def load_sweep_config(self, sweep: DictConfig, overrides: list[str]) -> DictConfig:
        self.asked = True
        return self.real.load_sweep_config(sweep, overrides)

    def list_groups(self, parent: str) -> list[str]:
        return self.real.list_groups(parent)


@pytest.mark.parametrize(("launcher", "asks"), [(LanesLauncher(), False), (Other(), True)])
def test_it_checks_cells_for_launchers_that_do_not(launcher: Launcher, asks: bool) -> None:
    register()
    with initialize_config_dir(config_dir=str(CONF), version_base=VERSION_BASE):
        loader = Loader(GlobalHydra.instance().config_loader())
        # Not by its own constructor: Hydra's scan for plugins replaces its base class in the module that it comes from.
        sweeper = GridSweeper.__new__(GridSweeper)
        sweeper.launcher, sweeper.hydra_context = launcher, loader  # type: ignore[assignment]
        sweeper.config = loader.real.load_configuration(NAME, [], RunMode.MULTIRUN)
        sweeper.validate_batch_is_legal([["seed=1"], ["seed=2"]])
        assert loader.asked == asks
        if asks:
            with pytest.raises(BadCellsError, match=r"lora\.rank is 0"):
                sweeper.validate_batch_is_legal([["lora.rank=1"], ["lora.rank=0"]])


@pytest.mark.parametrize(
    ("choice", "values", "said"),
    [
        ("hydra/launcher=basic", "0,abc", "lora.rank is 'abc'; allowed: a whole number, or null."),
        ("hydra/launcher=lanes", "0,abc", "lora.rank is 'abc'; allowed: a whole number, or null."),
        ("hydra/sweeper=basic", "0,-1", "Nothing was started: 2 of 2 cells cannot be run."),
    ],
)
def test_wrong_cells_stop_a_sweep_before_it_starts(choice: str, values: str, said: str, tmp_path: Path) -> None:
    """Rank 0 would fail when its turn comes, with exit code 1."""
    command = [sys.executable, "-m", "src.train", "-m", choice, f"lora.rank={values}", f"output_dir={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.splitlines()[0]) == (2, said)
