"""The default launcher ``lanes``: all cells of a sweep in this process, checked before the first one starts.

Hydra's own launchers call the task function once for each cell. This one hands all cells over together, so that
cells which share the frozen base can train in one pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from src.config.cells import Cell, run_cells

# No options of its own: packs are set by the key pack_size.
ConfigStore.instance().store(
    group="hydra/launcher",
    name="lanes",
    node={"_target_": "hydra_plugins.lanes_launcher.LanesLauncher"},
    provider="lora-sweep",
)


class LanesLauncher(Launcher):
    """Composes every cell, checks every cell, then runs them by studies."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Part of Hydra's interface; the task function, made for one cell, is not used."""
        self.context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all cells of a batch; the return value of each is its validation score.

        A sweeper with a failure rate of its own goes on where cells fail: they return None.

        Raises:
            HarnessError: as src.config.cells.run_cells.
        """
        setup_globals()
        names = _names(job_overrides)
        jobs = [self._compose(list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        cells = [Cell(name, config) for name, (config, _) in zip(names, jobs, strict=True)]
        scores = run_cells(cells, need_all="max_failure_rate" not in self.config.hydra.sweeper)
        for (_, job), score in zip(jobs, scores, strict=True):
            job.return_value, job.status = score, JobStatus.COMPLETED
        return [job for _, job in jobs]

    def _compose(self, overrides: list[str], index: int) -> tuple[DictConfig, JobReturn]:
        """Our part of a cell's config, and the return that waits for its score."""
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            hydra = DictConfig({"hydra": config.pop("hydra")})
        hydra.hydra.job.id, hydra.hydra.job.num = str(index), index
        name = JobRuntime.instance().get("name")
        return config, JobReturn(overrides, config, hydra, working_dir=str(Path.cwd()), task_name=name)


def _names(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Overrides by which a cell differs from the others, or all of them where there is only one cell."""
    shared = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
    return [" ".join(text for text in filter_overrides(job) if text not in shared) for job in job_overrides]
