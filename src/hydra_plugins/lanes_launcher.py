"""The default launcher ``lanes``: all cells of a sweep in this process, checked before the first one starts.

Hydra's own launchers call the task function once for each cell. This one hands all cells over together, so that
cells which share the frozen base can train in one pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from src.config.cells import Cell, run_cells
from src.config.compose import compose_cells

# No options of its own: packs are set by the key pack.
ConfigStore.instance().store(
    group="hydra/launcher",
    name="lanes",
    node={"_target_": "hydra_plugins.lanes_launcher.LanesLauncher"},
    provider="lora-sweep",
)


class LanesLauncher(Launcher):
    """Composes every cell, checks every cell, then runs them by studies."""

    # Read by src/hydra_plugins/grid_sweeper.py.
    checks_cells = True

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
        cells = compose_cells(self.context.config_loader, self.config, job_overrides)
        scores = self.run(cells, searches="max_failure_rate" in self.config.hydra.sweeper)
        return returns(job_overrides, scores)

    def run(self, cells: Sequence[Cell], *, searches: bool) -> list[float | None]:
        """Train the cells; a search calls again and again, for a few cells each time.

        Returns:
            Validation scores.
        """
        # Model and data are loaded once for a whole search, which needs its own process for that.
        return run_cells(cells, need_all=not searches, isolated=not searches)


def returns(job_overrides: Sequence[Sequence[str]], scores: Sequence[float | None]) -> list[JobReturn]:
    """What a launcher gives back of cells that have run."""
    name, folder = JobRuntime.instance().get("name"), str(Path.cwd())
    jobs = [JobReturn(list(job), working_dir=folder, task_name=name) for job in job_overrides]
    for job, score in zip(jobs, scores, strict=True):
        job.return_value, job.status = score, JobStatus.COMPLETED
    return jobs
