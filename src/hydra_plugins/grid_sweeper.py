"""The default sweeper ``grid``: Hydra's own, ``basic``, less its check of every cell where the launcher does as much.

It composes each cell once only to see whether that works, and then the launcher composes them all again.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore

# The options of ``basic``.
NODE = BasicSweeperConf(_target_="hydra_plugins.grid_sweeper.GridSweeper")
ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=NODE, provider="lora-sweep")


class GridSweeper(BasicSweeper):
    """All combinations of the values of all axes."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """For launchers that start cells one by one, and would meet a wrong one when others have run."""
        if not getattr(self.launcher, "checks_cells", False):
            super().validate_batch_is_legal(batch)
