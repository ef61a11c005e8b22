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
from src.errors import ConfigError

# The options of ``basic``.
NODE = BasicSweeperConf(_target_="hydra_plugins.grid_sweeper.GridSweeper")
ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=NODE, provider="lora-sweep")


class GridSweeper(BasicSweeper):
    """All combinations of the values of all axes."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Part of Hydra's interface.

        Raises:
            ConfigError: a batch size that is none, or means nothing to the launcher.
        """
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        own = getattr(self.launcher, "checks_cells", False)
        if self.max_batch_size is not None and (own or self.max_batch_size < 1):
            allowed = (
                "null, as these cells train in packs (key pack)" if own else "a whole number of at least 1, or null"
            )
            raise ConfigError("hydra.sweeper.max_batch_size", self.max_batch_size, allowed)
        if not own:
            assert self.launcher is not None
            self.launcher = JobLauncher(self.launcher, self.max_batch_size)
            self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """All cells as one batch; `JobLauncher` makes smaller ones of them when all are checked.

        Raises:
            ConfigError: as `check_axes`.
        """
        check_axes(overrides)
        return BasicSweeper.split_arguments(overrides, None)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """The launcher does."""
