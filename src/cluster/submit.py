"""Hand the cells of a study to SLURM: one array job, one task for each pack."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from src.cluster.submission import Payload, Submission, TaskFiles, new_folder, write_payload, write_submission
from src.cluster.task import Task
from src.errors import HarnessError, counted
from src.experiment.packing.plan import Pack, chunks, plan_packs, trains_alone
from src.experiment.resolve import Cell
from src.records import StudyPaths
from src.records.text import one_line
from src.spec import RunSpec, Settings, SlurmSpec

logger = logging.getLogger(__name__)


def require_slurm() -> None:
    """Raises:
    HarnessError: this machine has no SLURM commands.
    """
    absent = [name for name in ("sbatch", "squeue", "scontrol", "srun") if shutil.which(name) is None]
    if absent:
        raise HarnessError(
            f"hydra/launcher=slurm needs SLURM's commands, and {', '.join(absent)} cannot be found here. Start it on a "
            "login node of a SLURM cluster, or leave hydra/launcher out to train in this process."
        )


def plan_tasks(cells: Sequence[Cell], settings: Settings, paths: StudyPaths) -> list[Pack]:
    """Cells of each task.

    With ``pack=<int>`` a task is a pack. With ``pack=auto`` nothing is measured here, where there may be no GPU: a task
    gets up to slurm.cells_per_task cells, and parts them into packs itself. Cells with checkpoints stay in their former
    company. Cells that halving holds against each other share one task.
    """
    if settings.halving.eta is not None:
        return [tuple(cells)]
    if settings.pack != "auto":
        return plan_packs(cells, settings.pack, paths)
    most = settings.slurm.cells_per_task
    packs = plan_packs(cells, most, paths)
    alone = [cell for pack in packs if trains_alone(pack[0]) for cell in pack]
    return [*(pack for pack in packs if not trains_alone(pack[0])), *chunks(alone, most)]


def submit(tasks: Sequence[Pack], specs: Mapping[str, RunSpec], settings: Settings, paths: StudyPaths) -> Submission:
    """Write a file for each task and submit them as one array.

    Args:
        specs: by run id, as they were asked for.
        settings: of the study; what was to run again has been forgotten already.

    Raises:
        HarnessError: sbatch refuses; its words are in the message.
        WriteError: the system refused to write.
    """
    folder, runs = new_folder(paths), [[cell.run_id for cell in task] for task in tasks]
    submission = write_submission(folder, None, runs)
    settings = dataclasses.replace(settings, rerun=False)
    for index, run_ids in enumerate(runs):
        payload = Payload(tuple(specs[run_id] for run_id in run_ids), settings, submission.since)
        write_payload(payload, submission.files(index))
    job = _sbatch([submission.files(index) for index in range(len(runs))], folder, settings)
    cells, parts = counted(sum(map(len, runs)), "cell"), counted(len(runs), "task")
    logger.info("Submitted %s of %s as SLURM job %s: %s", cells, paths.name, job, parts)
    return write_submission(folder, job, runs)


def _sbatch(files: Sequence[TaskFiles], folder: Path, settings: Settings) -> str:
    """The id of the job."""
    try:
        executor = submitit.SlurmExecutor(folder / "submitit", max_num_timeout=0)
        executor.update_parameters(**_parameters(settings.slurm, settings.study))
        # submitit prints what sbatch says, which is in its error as well.
        with contextlib.redirect_stderr(io.StringIO()):
            jobs = executor.submit_array([Task(str(file.payload.absolute())) for file in files])
    except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise HarnessError(
            f"Nothing was submitted: {_refusal(error)} What it was asked for are the keys under slurm; where it does "
            "not reach a cluster at all, start this on a login node, or leave hydra/launcher out to train here."
        ) from error
    return jobs[0].job_id.partition("_")[0]


def _parameters(slurm: SlurmSpec, study: str) -> dict[str, Any]:
    """What submitit passes on to sbatch."""
    given = {
        "partition": slurm.partition,
        "account": slurm.account,
        "gpus_per_node": slurm.gpus or None,
        "mem": None if slurm.memory is None else f"{round(slurm.memory * 1024)}M",
        "setup": list(slurm.setup) or None,
    }
    extra = {name: True if value == "true" else value for name, value in (slurm.extra or {}).items()}
    return {
        **{name: value for name, value in given.items() if value is not None},
        "job_name": study,
        "time": slurm.time,
        "nodes": 1,
        "cpus_per_task": slurm.cpus,
        # From version 22.05 on, srun takes one core unless it is told.
        "srun_args": [f"--cpus-per-task={slurm.cpus}"],
        "signal_delay_s": slurm.notice,
        "array_parallelism": slurm.array_parallelism,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **extra},
    }


def _refusal(error: Exception) -> str:
    """sbatch's own sentence out of what submitit makes of it."""
    lines = [one_line(line) for line in str(error).splitlines()]
    said = [line.removeprefix("sbatch: error: ") for line in lines if line.startswith("sbatch: error:")]
    text = "; ".join(said) or one_line(str(error), 300)
    return f"sbatch says: {text}" + ("" if text.endswith(".") else ".")
