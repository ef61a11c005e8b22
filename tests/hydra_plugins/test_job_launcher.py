"""Hydra's own launchers under the default sweeper: batches, failures, one report at the end."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from src.config import register
from src.errors import HarnessError

ROOT = Path(__file__).resolve().parents[2]
register()
# Under the name by which Hydra knows it.
job_launcher = importlib.import_module("hydra_plugins.job_launcher")


class Recorder:
    """A launcher that notes what it is given; the job of ``x=bad`` fails."""

    def __init__(self) -> None:
        self.launched: list[tuple[list[str], int]] = []

    def launch(self, overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        self.launched.append(([job[0] for job in overrides], first))
        jobs = [JobReturn(list(job), status=JobStatus.COMPLETED) for job in overrides]
        for job in jobs:
            if job.overrides == ["x=bad"]:
                job.status, job.return_value = JobStatus.FAILED, HarnessError("it is bad")
        return jobs


def launcher(name: str, most: int | None, cpus: int | None = None) -> Any:
    made = job_launcher.JobLauncher(Recorder(), most)
    hydra = {"runtime": {"choices": {"hydra/launcher": name}}, "launcher": {"cpus_per_task": cpus}}
    context: Any = SimpleNamespace(config_loader=None)
    made.setup(hydra_context=context, task_function=lambda _: None, config=OmegaConf.create({"hydra": hydra}))
