"""Around Hydra's own launchers (basic, submitit_local, submitit_slurm), which start a job for each cell.

They would start a cell before the next one is checked, all of them at once, and stop at the first that fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.lanes_launcher import returns
from src.config.compose import compose_cells
from src.config.jobs import run_as_jobs
from src.config.messages import paragraph
from src.errors import brief


class JobLauncher(Launcher):
    """Checks every cell, lets another launcher run those that are not done, and reports what came of all.

    Args:
        launcher: that starts the jobs; set up already.
        most: jobs at a time; None: all of them, and with submitit_local as many as there are cores for.
    """

    def __init__(self, launcher: Launcher, most: int | None) -> None:
        self.launcher, self.most = launcher, most

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Part of Hydra's interface."""
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all cells; the return value of each is its validation score.

        Raises:
            HarnessError: as src.config.jobs.run_as_jobs.
        """
        setup_globals()
        cells = compose_cells(self.context.config_loader, self.config, job_overrides)

        def start(places: Sequence[int]) -> dict[int, str]:
            causes: dict[int, str] = {}
            for first, batch in self._batches(places):
                jobs = self._run([job_overrides[place] for place in batch], initial_job_idx + first)
                causes |= {place: cause for place, cause in zip(batch, jobs, strict=True) if cause is not None}
            return causes

        return returns(job_overrides, run_as_jobs(cells, start))

    @property
    def _name(self) -> str:
        return str(self.config.hydra.runtime.choices.get("hydra/launcher"))

    def _batches(self, places: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
        local = self._name == "submitit_local"
        most = self._share_cores() if local else self.most or len(places)
        for first in range(0, len(places), most):
            yield first, places[first : first + most]

    def _share_cores(self) -> int:
        """Part this machine's cores among jobs that run on it side by side; how many of them at a time."""
        cores, cpus = len(os.sched_getaffinity(0)), self.config.hydra.launcher.cpus_per_task
        most = self.most or max(cores // (cpus or 1), 1)
        # Torch would take all cores in each of them.
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus or max(cores // most, 1)))
        return most

    def _run(self, overrides: Sequence[Sequence[str]], first: int) -> list[str | None]:
        """Run jobs to the end of the last one; what went wrong in each."""
        if not self._name.startswith("submitit"):
            return [_cause(job) for job in self.launcher.launch(overrides, first)]
        # It takes a quarter of a second, which launchers that do without it need not spend.
        from src.cluster.jobs import result_of, submitted  # noqa: PLC0415

        with submitted() as jobs:
            try:
                ended = self.launcher.launch(overrides, first)
            except Exception:
                # It does not wait for those behind a job without a result.
                if not jobs:
                    raise
                ended = [result_of(job) for job in jobs]
        return [_cause(job) for job in ended]


def _cause(ended: JobReturn | Exception) -> str | None:
    if isinstance(ended, Exception):
        return brief(paragraph(ended))
    # The property would print before it raises.
    return None if ended.status == JobStatus.COMPLETED else brief(paragraph(ended._return_value))
