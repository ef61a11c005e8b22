"""The default sweeper leaves checks to a launcher that makes them, and makes them for all others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.plugins.launcher import Launcher

from src.hydra_plugins.grid_sweeper import GridSweeper
from src.hydra_plugins.lanes_launcher import LanesLauncher

ROOT = Path(__file__).resolve().parents[2]


class Other(Launcher):
    """Starts nothing."""

    def setup(self, **_: Any) -> None: ...

    def launch(self, job_overrides: Any, initial_job_idx: int) -> list[Any]:
        return []


class Loader:
    """Counts what is composed."""

    def __init__(self) -> None:
        self.composed: list[list[str]] = []
        self.config_loader = self

    def load_sweep_config(self, master_config: Any, sweep_overrides: list[str]) -> None:
        self.composed.append(sweep_overrides)


@pytest.mark.parametrize(("launcher", "composed"), [(LanesLauncher(), []), (Other(), [["seed=1"], ["seed=2"]])])
def test_it_composes_cells_for_launchers_that_do_not_check_them(launcher: Launcher, composed: list[list[str]]) -> None:
    # Not by its own constructor: Hydra's scan for plugins replaces its base class in the module that it comes from.
    sweeper, loader = GridSweeper.__new__(GridSweeper), Loader()
    sweeper.launcher, sweeper.config, sweeper.hydra_context = launcher, {}, loader  # type: ignore[assignment]
    sweeper.validate_batch_is_legal([["seed=1"], ["seed=2"]])
    assert loader.composed == composed


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
