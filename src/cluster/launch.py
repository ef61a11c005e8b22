"""Studies on SLURM, from checked specs to what came of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.cluster.queue import read_queue
from src.cluster.state import StudyView
from src.cluster.submission import Submission, read_submissions
from src.cluster.submit import plan_tasks, require_slurm, submit
from src.cluster.watch import wait_for
from src.errors import HarnessError, InterruptedRunError, counted
from src.experiment.elsewhere import command_on, finish_study, plan_studies
from src.experiment.resolve import Cell
from src.experiment.study import Prepared, StudyOutcome
from src.spec import RunSpec, Settings

logger = logging.getLogger(__name__)
# How a study ended, why it could not run, or None where nobody waited for it.
Ending = StudyOutcome | HarnessError | None


@dataclass(frozen=True)
class _Submitted:
    """A study whose cells are with SLURM.

    Attributes:
        submissions: that have cells of it, from this command and from earlier ones.
    """

    prepared: Prepared
    submissions: tuple[Submission, ...]


def run_on_slurm(studies: Mapping[Settings, Sequence[RunSpec]]) -> list[Ending]:
    """Prepare all studies, submit them all, then wait for them and report, where slurm.wait says so.

    Model and data are fetched here, as compute nodes may have no network. A study that cannot be prepared or submitted
    does not stop the others.

    Raises:
        ConfigError, BadCellsError: some cell does not fit its model or data; nothing was submitted.
        InterruptedRunError: the person left; the tasks go on.
        HarnessError: there is no SLURM here.
    """
    require_slurm()
    prepared = plan_studies(studies)
    submitted = [
        one if isinstance(one, HarnessError) else _submit(one, specs)
        for one, specs in zip(prepared, studies.values(), strict=True)
    ]
    waiting = [one for one in submitted if isinstance(one, _Submitted) and one.prepared.settings.slurm.wait]
    _wait(waiting)
    return [_end(one) for one in submitted]


def _submit(prepared: Prepared, specs: Sequence[RunSpec]) -> _Submitted | HarnessError:
    """Submit what is neither done nor with SLURM already."""
    by_id = {cell.run_id: spec for cell, spec in zip(prepared.cells, specs, strict=True)}
    earlier, pending = _leave_out_queued(prepared)
    if not pending:
        return _Submitted(prepared, earlier)
    settings = prepared.settings
    try:
        tasks = plan_tasks(pending, settings, prepared.paths)
        submission = submit(tasks, by_id, settings, prepared.paths)
    except HarnessError as error:
        return error
    if not settings.slurm.wait:
        _say_goodbye(submission, settings)
    return _Submitted(prepared, (*earlier, submission))


def _leave_out_queued(prepared: Prepared) -> tuple[tuple[Submission, ...], list[Cell]]:
    """Earlier submissions that still have cells of this study, and the cells that none of them has."""
    submissions = read_submissions(prepared.paths)
    queue = read_queue(submission.job for submission in submissions)
    states = StudyView(prepared.paths).cells(submissions, queue) if submissions else []
    busy = {cell.run_id for cell in states if cell.state in {"queued", "running"}}
    earlier = tuple(s for s in submissions if busy & s.task_of.keys() & {cell.run_id for cell in prepared.pending})
    with_slurm = busy & {run_id for submission in earlier for run_id in submission.task_of}
    pending = [cell for cell in prepared.pending if cell.run_id not in with_slurm]
    if len(pending) < len(prepared.pending):
        jobs = ", ".join(str(submission.job) for submission in earlier)
        logger.info("%s with SLURM already: job %s", counted(len(prepared.pending) - len(pending), "cell"), jobs)
    return earlier, pending


def _wait(waiting: Sequence[_Submitted]) -> None:
    submissions = [submission for one in waiting for submission in one.submissions]
    try:
        wait_for(submissions)
    except KeyboardInterrupt as error:
        jobs = " ".join(str(submission.job) for submission in submissions)
        follow = " and ".join(f"`{command_on(one.prepared.settings, 'status')}`" for one in waiting)
        raise InterruptedRunError(
            f"Left; SLURM job {jobs} goes on without this command. {follow} shows how it stands, `scancel {jobs}` ends "
            "it, and the same command waits for it again."
        ) from error


def _end(one: _Submitted | HarnessError) -> Ending:
    """Report a study from its files."""
    if isinstance(one, HarnessError):
        return one
    if not one.prepared.settings.slurm.wait and one.submissions:
        return None
    return finish_study(one.prepared)


def _say_goodbye(submission: Submission, settings: Settings) -> None:
    cells, tasks = counted(len(submission.task_of), "cell"), counted(len(submission.tasks), "task")
    print(
        f"SLURM job {submission.job} has {cells} in {tasks}: `{command_on(settings, 'status')}` shows how they "
        f"stand, and `{command_on(settings, 'report')}` reports what has ended."
    )
