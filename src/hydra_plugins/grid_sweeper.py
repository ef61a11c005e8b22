"""The default sweeper ``grid``: Hydra's own, ``basic``, with launchers that check all cells before the first starts.

Hydra's would compose each cell once only to see whether that works, batch by batch, the later ones when the earlier
have run; then the launcher would compose them all again.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.job_launcher import JobLauncher
from src.config.axes import check_axes

# The options of ``basic``.
NODE = BasicSweeperConf(_target_="hydra_plugins.grid_sweeper.GridSweeper")
ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=NODE, provider="lora-sweep")


class GridSweeper(BasicSweeper):
    """All combinations of the values of all axes."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Part of Hydra's interface."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if not getattr(self.launcher, "checks_cells", False):
            assert self.launcher is not None
            self.launcher = JobLauncher(self.launcher, self.max_batch_size)
            self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """All cells as one batch, of which the launcher makes its own.

        Raises:
            ConfigError: as `check_axes`.
        """
        check_axes(overrides)
        return BasicSweeper.split_arguments(overrides, None)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """The launcher does."""
