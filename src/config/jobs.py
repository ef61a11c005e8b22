"""Sweeps whose cells are jobs of their own, for launchers that know nothing of studies.

All cells are checked and planned, and their models and data fetched, before the first job starts; a job trains its cell
and writes its record; what came of all is reported once, from the records, when the last job has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.config.cells import Cell, Studies, check_cells, check_models, gather, specs_of, studies_of
from src.errors import ConfigError, HarnessError, counted
from src.spec import RunSpec, Settings

if TYPE_CHECKING:
    from src.experiment.study import Prepared

logger = logging.getLogger(__name__)
# Runs the jobs of the cells at these places to their ends; gives what went wrong in them, by place.
Start = Callable[[Sequence[int]], Mapping[int, str]]


def run_as_jobs(cells: Sequence[Cell], start: Start) -> list[float | None]:
    """As `src.config.cells.run_cells`; what is done already gets no job.

    Returns:
        Validation scores.

    Raises:
        ConfigError, BadCellsError: a cell is wrong; raised before anything starts.
        HarnessError: a cell or a study failed; raised after all others have finished.
    """
    checked = check_cells(cells)
    _refuse_halving(checked)
    # Torch and transformers come with it: a wrong config should be told without waiting for them.
    from src.experiment.study import finish_study, plan_studies  # noqa: PLC0415

    studies = studies_of(checked)
    check_models(checked, studies)
    planned = plan_studies({settings: specs_of(checked, indices) for settings, indices in studies.items()})
    records = _pending(studies, planned)
    if records:
        logger.info("Starting %s; `python -m src.status <study>` shows how they stand", counted(len(records), "job"))
        for place, cause in start(list(records)).items():
            if not records[place].exists():
                logger.warning("%s: %s", cells[place].name or "The cell", cause)
    endings = (study if isinstance(study, HarnessError) else finish_study(study) for study in planned)
    return gather(checked, studies, endings, need_all=True)


def run_job(cell: Cell) -> float | None:
    """Train the cell of one job.

    Returns:
        Its validation score.

    Raises:
        ConfigError, HarnessError, InterruptedRunError: as `src.config.cells.run_cells`.
    """
    checked = check_cells([cell])
    from src.experiment.study import run_part  # noqa: PLC0415

    ((spec, settings),) = checked
    return gather(checked, studies_of(checked), [run_part([spec], settings)], need_all=True)[0]


def _refuse_halving(checked: Sequence[tuple[RunSpec, Settings]]) -> None:
    for _, settings in checked:
        if settings.halving.eta is not None:
            allowed = "null where each cell is a job of its own; hydra/launcher=lanes and slurm can halve"
            raise ConfigError("halving.eta", settings.halving.eta, allowed)


def _pending(studies: Studies, planned: Sequence[Prepared | HarnessError]) -> dict[int, Path]:
    """Places of the cells that are to run, each cell once, and where its record will lie."""
    pending: dict[int, Path] = {}
    for indices, study in zip(studies.values(), planned, strict=True):
        if isinstance(study, HarnessError):
            continue
        waiting = {cell.run_id for cell in study.pending}
        for index, cell in zip(indices, study.cells, strict=True):
            if cell.run_id in waiting:
                waiting.remove(cell.run_id)
                pending[index] = study.paths.run(cell.run_id).record
    return dict(sorted(pending.items()))
