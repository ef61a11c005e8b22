"""The launcher ``slurm``: all cells of a sweep as one SLURM array job, one task for each pack.

    python -m src.train -m lora.rank=1,4,8,64 hydra/launcher=slurm slurm=gpu slurm.partition=short slurm.wait=false

Cells are composed and checked here, model and data are fetched here; tasks train by the same path as the launcher
``lanes``, and what came of them is read from their records. Its options are the config group ``slurm``.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore

from hydra_plugins.lanes_launcher import LanesLauncher
from src.config.cells import Cell, run_cells_on_slurm
from src.errors import ConfigError

ConfigStore.instance().store(
    group="hydra/launcher",
    name="slurm",
    node={"_target_": "hydra_plugins.slurm_launcher.SlurmLauncher"},
    provider="lora-sweep",
)


class SlurmLauncher(LanesLauncher):
    """As its parent, but the cells train elsewhere."""

    def run(self, cells: Sequence[Cell], *, searches: bool) -> list[float | None]:
        """Raises:
        ConfigError: a search, which learns from scores, does not wait for them.
        """
        if searches and not all(cell.config["slurm"]["wait"] for cell in cells):
            raise ConfigError("slurm.wait", False, "true with a search, which learns from the scores")
        return run_cells_on_slurm(cells, need_all=not searches)
