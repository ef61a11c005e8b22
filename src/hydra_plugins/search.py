"""The sweeper ``optuna``: search instead of a grid, the next cells following from the scores of those before.

    python -m src.train -m hydra/sweeper=optuna 'optim.lr=tag(log, interval(5e-4, 1e-2))' hydra.sweeper.n_trials=8

It is hydra-optuna-sweeper (the extra ``optuna``) with what this harness knows of direction, failures and repetition.
Axes are intervals, ranges or choices; what is a choice in a grid (lora.targets=q,qv) is one for Optuna as well, which
looks for the best of all: to find the learning rate of each of several configurations, start one search for each.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.errors import ConfigError, HarnessError
from src.spec import LOWER_IS_BETTER

RESULTS = "optimization_results.yaml"
BATCH = 8
OPTIONS = {
    "_target_": "hydra_plugins.search.OptunaSearch",
    # The sampler is made here.
    "_recursive_": False,
    # hydra/sweeper/sampler=random, cmaes or nsgaii; optional, so that a missing extra is told in our words.
    "defaults": [{"optional sampler": "tpe"}, "_self_"],
    # Cells to train in all.
    "n_trials": 16,
    # Cells of one batch, which train together; the sampler learns from a batch when it has ended. null: `pack`, or
    # BATCH where that is auto.
    "n_jobs": None,
    # minimize or maximize the validation score; null: what task.metric calls better.
    "direction": None,
    # Largest share of a batch that may fail or diverge without ending the search.
    "max_failure_rate": 1.0,
    # Where Optuna keeps its trials, such as sqlite:///outputs/search.db, and their name there; null: in memory.
    "storage": None,
    "study_name": None,
    # Axes of a sweep file, by key.
    "params": None,
}

# Theirs has the same name: what is stored last counts.
THEIRS = importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is not None
if THEIRS:
    importlib.import_module("hydra_plugins.hydra_optuna_sweeper.config")
ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OPTIONS, provider="lora-sweep")


class OptunaSearch(Sweeper):
    """Asks Optuna for batches of cells and tells it their validation scores; its options are `OPTIONS`."""

    def __init__(self, *, sampler: DictConfig | None = None, direction: str | None, **options: Any) -> None:
        self.sampler, self.direction, self.options = sampler, direction, options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Part of Hydra's interface.

        Raises:
            ConfigError: the extra is not installed, or an option is not allowed.
        """
        lower = config.task.metric in LOWER_IS_BETTER
        self.direction = self.direction or ("minimize" if lower else "maximize")
        if self.options["n_jobs"] is None:
            self.options["n_jobs"] = config.pack if isinstance(config.pack, int) else BATCH
        self._check()
        self.sweeper = _their_sweeper(
            sampler=_make_sampler(self.sampler, config.hydra.runtime.choices.get("hydra/sweeper/sampler")),
            direction=self.direction,
            search_space=None,
            custom_search_space=None,
            **self.options,
        )
        self.sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.sweeper.launcher = WorstWhereNone(self.sweeper.launcher, math.inf if lower else -math.inf)
        self.results = Path(config.hydra.sweep.dir) / RESULTS

    def sweep(self, arguments: list[str]) -> None:
        """Search, then say what was found.

        Raises:
            HarnessError: no cell has a validation score, the launcher failed, or Optuna cannot search these axes.
        """
        self.results.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.sweeper.sweep(arguments)
        except ValueError as error:
            raise HarnessError(f"Optuna cannot search these axes: {error}") from error
        found = OmegaConf.load(self.results)
        if not math.isfinite(found.best_value):
            raise HarnessError("No cell of the search has a validation score; the table above says why.")
        values = " ".join(f"{key}={value}" for key, value in found.best_params.items())
        print(f"Best of the search, validation {found.best_value:.4f}: {values}")

    def _check(self) -> None:
        whole, directions = "a whole number of at least 1", ("minimize", "maximize")
        given = {**self.options, "direction": self.direction}
        checks = [
            ("n_trials", _is_positive(given["n_trials"]), whole),
            ("n_jobs", _is_positive(given["n_jobs"]), whole),
            ("direction", given["direction"] in directions, f"{' or '.join(directions)}, or null"),
        ]
        for name, good, allowed in checks:
            if not good:
                raise ConfigError(f"hydra.sweeper.{name}", given[name], allowed)


class WorstWhereNone:
    """A launcher for which a cell without a score, such as one that diverged, has the worst one there is.

    A trial that only counts as failed tells a sampler nothing: it would go on where learning rates diverge.
    """

    def __init__(self, launcher: Launcher, worst: float) -> None:
        self.launcher, self.worst = launcher, worst

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        returns = self.launcher.launch(job_overrides, initial_job_idx)
        for job in returns:
            if job.status == JobStatus.COMPLETED and job.return_value is None:
                job.return_value = self.worst
        return returns


def _their_sweeper(**options: Any) -> Any:
    try:
        import optuna  # noqa: PLC0415
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl  # noqa: PLC0415
    except ImportError as error:
        extra = 'grid; or optuna, after: pip install -c constraints.txt -e ".[optuna]"'
        raise ConfigError("hydra/sweeper", "optuna", extra) from error
    # What it would say, the study's own log and table say better.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSweeperImpl(**options)


def _make_sampler(config: DictConfig | None, name: str | None) -> Any:
    """The sampler, seeded: an unseeded one would propose other cells each time the command is given."""
    if config is None:
        if not THEIRS:
            return None
        raise ConfigError("hydra/sweeper/sampler", name, "tpe, random, cmaes or nsgaii")
    if "seed" in config and config.seed is None:
        config.seed = 0
    return instantiate(config)


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and value >= 1
