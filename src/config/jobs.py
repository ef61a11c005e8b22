"""Sweeps whose cells are jobs of their own, for launchers that know nothing of studies.

All cells are checked and planned, and their models and data fetched, before the first job starts; a job trains its cell
and writes its record; what came of all is reported once, from the records, when the last job has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from src.config.cells import Cell, Studies, check_cells, check_models, gather, specs_of, studies_of
from src.errors import ConfigError, HarnessError, InterruptedRunError, counted
from src.spec import RunSpec, Settings

if TYPE_CHECKING:
    from src.experiment.study import Prepared

logger = logging.getLogger(__name__)
# Told the place of a cell whose job has ended, and what went wrong in it.
Ended = Callable[[int, str | None], None]
# Runs the jobs of the cells at these places to their ends, and tells each end.
Start = Callable[[Sequence[int], Ended], None]
Planned = Sequence["Prepared | HarnessError"]


def run_as_jobs(cells: Sequence[Cell], start: Start) -> list[float | None]:
    """As `src.config.cells.run_cells`; what is done already gets no job.

    Returns:
        Validation scores.

    Raises:
        ConfigError, BadCellsError: a cell is wrong; raised before anything starts.
        HarnessError: a cell or a study failed; raised after all others have finished.
        BaseException: what `start` raises, a stop that was asked for above all; what has ended is reported before.
    """
    checked = check_cells(cells)
    _refuse_halving(checked)
    # Torch and transformers come with it: a wrong config should be told without waiting for them.
    from src.experiment.elsewhere import finish_study, plan_studies  # noqa: PLC0415
    from src.experiment.study import report_so_far  # noqa: PLC0415

    studies = studies_of(checked)
    check_models(checked, studies)
    planned = plan_studies({settings: specs_of(checked, indices) for settings, indices in studies.items()})
    try:
        _run(studies, planned, start)
    except BaseException:
        for study in planned:
            if not isinstance(study, HarnessError):
                report_so_far(study.paths, study.settings)
        raise
    endings = [study if isinstance(study, HarnessError) else finish_study(study) for study in planned]
    return gather(checked, studies, endings, need_all=True)


def run_job(cell: Cell) -> float | None:
    """Train the cell of one job.

    Returns:
        Its validation score.

    Raises:
        ConfigError, HarnessError, InterruptedRunError: as `src.config.cells.run_cells`.
    """
    ((spec, settings),) = check_cells([cell])
    from src.experiment.processes.signals import heed_ctrl_c  # noqa: PLC0415
    from src.experiment.study import run_part  # noqa: PLC0415

    # Not during the imports, which may swallow what it raises.
    heed_ctrl_c()
    outcome = run_part([spec], settings)
    if outcome.num_failed:
        where = f"{settings.output_dir}/{settings.study}"
        raise HarnessError(f"The cell did not complete; its record under {where} says why.")
    return outcome.scores[0]


def _run(studies: Studies, planned: Planned, start: Start) -> None:
    """Run the jobs and tell their ends; what kept jobs from starting is told as well, and then ends them all.

    Raises:
        InterruptedRunError: a stop was requested.
    """
    from src.experiment.display.console import tell_all  # noqa: PLC0415
    from src.experiment.elsewhere import Ends, command_on, launching  # noqa: PLC0415

    pending = _pending(studies, planned)
    begun = [study for study in planned if not isinstance(study, HarnessError)]
    if not pending:
        return
    tell_all()
    follow = " and ".join(f"`{command_on(study.settings, 'status')}`" for study in begun)
    logger.info("Starting %s; %s shows how they stand", counted(len(pending), "job"), follow)
    ends = Ends(len(pending))

    def ended(place: int, cause: str | None) -> None:
        study, index = pending[place]
        ends.tell(study.cells[index], study, cause)

    try:
        with launching(begun):
            start(list(pending), ended)
    except InterruptedRunError:
        raise
    except HarnessError as error:
        logger.error("%s", error)


def _refuse_halving(checked: Sequence[tuple[RunSpec, Settings]]) -> None:
    for _, settings in checked:
        if settings.halving.eta is not None:
            allowed = "null where each cell is a job of its own; hydra/launcher=lanes and slurm can halve"
            raise ConfigError("halving.eta", settings.halving.eta, allowed)


def _pending(studies: Studies, planned: Planned) -> dict[int, tuple[Prepared, int]]:
    """Places of the cells that are to run, each cell once; with its study, and its place there."""
    pending: dict[int, tuple[Prepared, int]] = {}
    for places, study in zip(studies.values(), planned, strict=True):
        if isinstance(study, HarnessError):
            continue
        waiting = {cell.run_id for cell in study.pending}
        for index, (place, cell) in enumerate(zip(places, study.cells, strict=True)):
            if cell.run_id in waiting:
                waiting.remove(cell.run_id)
                pending[place] = study, index
    return dict(sorted(pending.items()))
