"""The commands, as a person on a login node gives them, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.records import RunPaths, StudyPaths
from tests.cluster.slurm import Slurm, wait_until
from tests.experiment.workplace import Workplace, record_of

ROOT = Path(__file__).resolve().parents[2]
Result = subprocess.CompletedProcess[str]
STUDY = "tiny"
START_S = 60


@dataclass(frozen=True)
class Cluster:
    """A tiny model on a SLURM; every command gets the same output folder."""

    slurm: Slurm
    place: Workplace
    output: Path

    def arguments(self, *more: str) -> list[str]:
        """A sweep with twelve steps for each cell; `more` says which, and comes last."""
        place = self.place
        return [
            "-m", "src.train", "-m", "hydra/launcher=slurm", f"model.path={place.model}", "task=own",
            f"task.path={place.data}", "task.max_length=16", "task.validation_size=12", "task.test_size=12",
            "lora.alpha=8", "optim.lr=1e-2", "optim.head_lr=1e-2", "trainer.max_steps=12", "trainer.batch_size=8",
            "trainer.eval_every=6", "trainer.checkpoint_every=4", "trainer.dtype=float32", "tracking=none",
            f"study={STUDY}", f"output_dir={self.output}", f"cache_dir={place.cache}", "device=cpu", "pack=2",
            "slurm.cpus=1", "slurm.memory=1", *more,
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.slurm.environment, "OMP_NUM_THREADS": "1"}

    def train(self, *more: str) -> Result:
        """Run the command to its end."""
        return self._run(*self.arguments(*more))

    @contextmanager
    def start(self, *more: str) -> Iterator[subprocess.Popen[str]]:
        """The command, started; it is over when the block is."""
        command = [sys.executable, *self.arguments(*more)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, cwd=ROOT, env=self.environment, text=True, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()

    def status(self) -> Result:
        return self._run("-m", "src.status", STUDY, "--output-dir", str(self.output))

    def report(self) -> Result:
        return self._run("-m", "src.report", STUDY, "--output-dir", str(self.output))

    @property
    def study(self) -> StudyPaths:
        return StudyPaths.of(self.output, STUDY)

    @property
    def runs(self) -> list[RunPaths]:
        """Runs with a record, sorted by name."""
        return [self.study.run(path.parent.name) for path in sorted(self.study.runs.glob("*/record.json"))]

    @property
    def statuses(self) -> list[str]:
        return [record_of(run)["status"] for run in self.runs]

    @property
    def submissions(self) -> list[dict[str, Any]]:
        """The oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self.study.slurm.glob("*/submission.json"))]

    @property
    def log(self) -> str:
        """What tasks have printed."""
        return "\n".join(path.read_text() for path in sorted(self.study.slurm.glob("*/submitit/*_log.out")))

    def wait_for_training(self, num: int = 1) -> None:
        """Until so many cells have told their step, which they do after some seconds of training."""
        wait_until(lambda: len(list(self.study.runs.glob("*/progress.json"))) >= num, START_S)

    def end(self) -> None:
        """End all jobs."""
        self.slurm.call("scancel", "--state=PENDING", "--full", f"--name={STUDY}")
        self.slurm.call("scancel", "--full", f"--name={STUDY}")
        wait_until(lambda: not self.slurm.call("squeue", "--noheader"), 30)

    def _run(self, *arguments: str) -> Result:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=280
        )
