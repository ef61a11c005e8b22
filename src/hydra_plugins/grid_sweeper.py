"""The default sweeper ``grid``: Hydra's own, ``basic``, less its check of every cell where the launcher does as much.

It composes each cell once only to see whether that works, and then the launcher composes them all again.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override

from src.cluster.watcher import watch_by_queue
from src.config.axes import check_axes
from src.config.cells import check_cells, prepare_cells
from src.config.compose import compose_cells

# The options of ``basic``.
NODE = BasicSweeperConf(_target_="hydra_plugins.grid_sweeper.GridSweeper")
ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=NODE, provider="lora-sweep")


class GridSweeper(BasicSweeper):
    """All combinations of the values of all axes."""

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Hydra's own, unless that would be more cells than anyone can run.

        Raises:
            ConfigError: as `check_axes`.
        """
        check_axes(overrides)
        return BasicSweeper.split_arguments(overrides, max_batch_size)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """For launchers that start cells one by one, and would meet a wrong one when others have run.

        Raises:
            ConfigError, BadCellsError: a cell is wrong; nothing was started.
        """
        if getattr(self.launcher, "checks_cells", False):
            return
        assert self.hydra_context is not None and self.config is not None
        cells = compose_cells(self.hydra_context.config_loader, self.config, batch)
        if not type(self.launcher).__module__.startswith("hydra_plugins.hydra_submitit_launcher"):
            check_cells(cells)
            return
        # Its jobs start in processes of their own, maybe on nodes without a network: all is fetched here, once.
        prepare_cells(cells)
        watch_by_queue()
