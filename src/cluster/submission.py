"""What one submission keeps in a study's folder, and how its tasks and its launcher talk: by files alone.

<study>/.slurm/<stamp>/
    submission.json         the SLURM job and the run ids of each task
    task-0000.json          specs and settings of one task, as plain JSON
    task-0000.alive         touched every few seconds while the task's process lives; gone when it has ended in order
    task-0000.error         why the task could not run its cells, in one paragraph
    submitit/               sbatch's script, submitit's files, logs

No module here imports torch: `python -m src.status` reads it all.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from src.errors import HarnessError
from src.records import StudyPaths, write_json_atomic
from src.records.decode import DecodeError, decode
from src.spec import FrozenMap, HalvingSpec, RunSpec, Settings, SlurmSpec, TrackingSpec, to_dict


@dataclass(frozen=True)
class TaskFiles:
    """Files of one task, by the path of its payload."""

    payload: Path

    @property
    def alive(self) -> Path:
        return self.payload.with_suffix(".alive")

    @property
    def error(self) -> Path:
        return self.payload.with_suffix(".error")


@dataclass(frozen=True)
class _Content:
    """submission.json; `since` is Unix time in seconds, `job` is None until sbatch has answered."""

    job: str | None
    tasks: tuple[tuple[str, ...], ...]
    since: float


@dataclass(frozen=True)
class Submission:
    """One array job, or for a single task one plain job.

    Attributes:
        folder: ``<study>/.slurm/<stamp>``.
        job: SLURM's id; None while, or because, sbatch has not answered.
        tasks: run ids of each task.
        since: when it was submitted, by the clock that dates the files of the study (Unix time, seconds).
    """

    folder: Path
    job: str | None
    tasks: tuple[tuple[str, ...], ...]
    since: float

    @property
    def study(self) -> StudyPaths:
        return StudyPaths(self.folder.parents[1])

    def task_id(self, index: int) -> str | None:
        """SLURM's name of a task: ``<array job>_<index>``, or the job's where there is only one."""
        return self.job if self.job is None or len(self.tasks) == 1 else f"{self.job}_{index}"

    def files(self, index: int) -> TaskFiles:
        return TaskFiles(self.folder / f"task-{index:04d}.json")

    @cached_property
    def task_of(self) -> dict[str, int]:
        """The task of each run id."""
        return {run_id: index for index, runs in enumerate(self.tasks) for run_id in runs}


@dataclass(frozen=True)
class Payload:
    """What a task is to run.

    Attributes:
        submitted: when it was submitted (Unix time, seconds); cells that have ended since are not run again, however
            often the task is requeued.
    """

    specs: tuple[RunSpec, ...]
    settings: Settings
    submitted: float


def new_folder(paths: StudyPaths) -> Path:
    """A folder of its own for one submission; names sort by time."""
    return paths.slurm / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}_{secrets.token_hex(2)}"


def write_submission(folder: Path, job: str | None, tasks: Sequence[Sequence[str]]) -> Submission:
    """Raises:
    WriteError: the system refused to write.
    """
    content = _Content(job, tuple(map(tuple, tasks)), time.time())
    write_json_atomic(_file(folder), asdict(content))
    return read_submission(folder)


def read_submission(folder: Path) -> Submission:
    """Raises:
    HarnessError: not a submission that can be read.
    """
    try:
        content: _Content = decode(_Content, json.loads(_file(folder).read_bytes()))
        since = _file(folder).stat().st_mtime
    except (OSError, ValueError, DecodeError) as error:
        raise HarnessError(f"{_file(folder)} cannot be read: {error}.") from error
    return Submission(folder, content.job, content.tasks, since)


def read_submissions(paths: StudyPaths) -> list[Submission]:
    """All of a study that can be read, the oldest first."""
    found = []
    with suppress(OSError):
        for folder in sorted(paths.slurm.iterdir()):
            with suppress(HarnessError):
                found.append(read_submission(folder))
    return found


def write_payload(payload: Payload, files: TaskFiles) -> None:
    """Raises:
    WriteError: the system refused to write.
    """
    specs = [to_dict(spec) for spec in payload.specs]
    values = {"specs": specs, "settings": to_dict(payload.settings), "submitted": payload.submitted}
    write_json_atomic(files.payload, values)


def read_payload(files: TaskFiles) -> Payload:
    """Exact inverse of `write_payload`.

    Raises:
        HarnessError: the file is not there, or not what was written.
    """
    try:
        values = json.loads(files.payload.read_bytes())
        specs = tuple(decode(RunSpec, spec, "spec") for spec in values["specs"])
        return Payload(specs, _settings(values["settings"]), float(values["submitted"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise HarnessError(f"The task's file {files.payload} cannot be read: {error}.") from error


def _settings(values: dict[str, Any]) -> Settings:
    slurm = dict(values["slurm"])
    extra = None if slurm["extra"] is None else FrozenMap(slurm["extra"])
    nested = {
        "tracking": TrackingSpec(**values["tracking"]),
        "halving": HalvingSpec(**values["halving"]),
        "slurm": SlurmSpec(**{**slurm, "setup": tuple(slurm["setup"]), "extra": extra}),
    }
    return Settings(**{**values, **nested})


def _file(folder: Path) -> Path:
    return folder / "submission.json"
