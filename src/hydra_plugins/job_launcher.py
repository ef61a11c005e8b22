"""Around launchers that start a job for each cell, such as Hydra's own: basic, submitit_local, submitit_slurm.

They would start a cell before the next one is checked, all of them at once, and stop at the first that fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.lanes_launcher import returns
from src.config.compose import compose_cells
from src.config.jobs import Ended, run_as_jobs
from src.config.messages import paragraph
from src.errors import InterruptedRunError, brief

LONGEST = 1000  # characters of what a job says went wrong
STOPPED = "Stopped as asked; run the same command again to continue."


class JobLauncher(Launcher):
    """Checks every cell, lets another launcher run those that are not done, and reports what came of all.

    The sweeper ``grid`` puts it around the launcher; by that name of the sweeper a job knows that it is one
    (src/train.py).

    Args:
        launcher: that starts the jobs; set up already.
        most: jobs of a batch, which ends before the next begins; None: all of them, and with submitit_local as many
            as there are cores for, each with its share of them.
    """

    def __init__(self, launcher: Launcher, most: int | None) -> None:
        self.launcher, self.most = launcher, most

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Part of Hydra's interface."""
        self.context, self.config = hydra_context, config
        self.name = str(config.hydra.runtime.choices.get("hydra/launcher"))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all cells; the return value of each is its validation score.

        Raises:
            HarnessError: as src.config.jobs.run_as_jobs.
            InterruptedRunError: a stop was requested; says what goes on.
        """
        setup_globals()
        cells = compose_cells(self.context.config_loader, self.config, job_overrides)

        def start(places: Sequence[int], ended: Ended) -> None:
            most = self._most(len(places))
            for first in range(0, len(places), most):
                batch = places[first : first + most]
                jobs = [job_overrides[place] for place in batch]
                self._run(jobs, initial_job_idx + first, lambda i, result: ended(batch[i], _cause(result)))  # noqa: B023

        return returns(job_overrides, run_as_jobs(cells, start))

    def _most(self, jobs: int) -> int:
        """Jobs at a time; those of submitit_local run on this machine side by side."""
        if self.name != "submitit_local":
            return self.most or jobs
        return self.most or max(_cores() // (self.config.hydra.launcher.cpus_per_task or 1), 1)

    def _run(self, jobs: Sequence[Sequence[str]], first: int, ended: Callable[[int, object], None]) -> None:
        """Run jobs to the end of the last one, and tell what each came to."""
        if not self.name.startswith("submitit"):
            for place, job in enumerate(self.launcher.launch(jobs, first)):
                ended(place, job)
            return
        # It takes a quarter of a second, which launchers that do without it need not spend.
        from src.cluster.jobs import stop, submitted  # noqa: PLC0415

        with submitted(ended) as there, self._share(len(jobs)):
            try:
                self.launcher.launch(jobs, first)
            except KeyboardInterrupt as error:
                raise InterruptedRunError(stop(there) or STOPPED) from error
            except BaseException:
                stop(there)
                raise

    @contextmanager
    def _share(self, jobs: int) -> Iterator[None]:
        """Jobs that are started within share this machine's cores; torch would take all of them in each."""
        if self.name != "submitit_local" or "OMP_NUM_THREADS" in os.environ:
            yield
            return
        threads = self.config.hydra.launcher.cpus_per_task or _cores() // jobs
        os.environ["OMP_NUM_THREADS"] = str(min(max(threads, 1), _cores()))
        try:
            yield
        finally:
            del os.environ["OMP_NUM_THREADS"]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _cause(ended: object) -> str | None:
    if isinstance(ended, JobReturn):
        if ended.status == JobStatus.COMPLETED:
            return None
        # The property would print before it raises.
        ended = ended._return_value
    assert isinstance(ended, BaseException)
    return brief(paragraph(ended), LONGEST)
