"""Studies whose cells are trained by other processes: planned here, followed by their records, reported here."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from src.errors import BadCellsError, ConfigError, HarnessError
from src.experiment.display.progress import PlainProgress
from src.experiment.processes.sharing import has_newly_ended
from src.experiment.resolve import Cell
from src.experiment.resources import Resources
from src.experiment.session import score_of
from src.experiment.study import StudyOutcome, begin_study, check_study, mirror, outcome, report_study
from src.experiment.work import Prepared
from src.records import LAUNCHER, Claims, find_record
from src.spec import RunSpec, Settings

logger = logging.getLogger(__name__)


def plan_studies(studies: Mapping[Settings, Sequence[RunSpec]]) -> list[Prepared | HarnessError]:
    """Check every cell of all studies, have their data and models at hand, and write down what is planned.

    A study that cannot be prepared does not stop the others: its error stands in its place.

    Raises:
        ConfigError, BadCellsError: some cell does not fit its model or data; nothing was changed.
    """
    # All, before the first one forgets what it is to run again.
    checked = [_check(specs, settings) for settings, specs in studies.items()]
    return [one if isinstance(one, HarnessError) else _begin(one) for one in checked]


def finish_study(planned: Prepared) -> StudyOutcome | HarnessError:
    """Report a study on disk, on the terminal and in its mirror.

    An error is given back, for callers that have other studies to finish.
    """
    try:
        tables, sentences = report_study(planned.paths, planned.settings)
    except HarnessError as error:
        return error
    mirror(tables, sentences, planned.paths, planned.settings)
    return outcome(planned)


def command_on(settings: Settings, name: str) -> str:
    """What a person types to have another command look at the study: ``python -m src.status minilm-r52``."""
    folder = "" if settings.output_dir == "outputs" else f" --output-dir {settings.output_dir}"
    return f"python -m src.{name} {settings.study}{folder}"


@contextmanager
def launching(planned: Sequence[Prepared]) -> Iterator[None]:
    """While jobs are being started for cells of these studies, `src.status` calls those queued that nobody has."""
    claims = [Claims(study.paths) for study in planned]
    name = f"{LAUNCHER}{socket.gethostname()}-{os.getpid()}"
    try:
        for claim in claims:
            claim.take(name, to_train=False)
        yield
    finally:
        for claim in claims:
            claim.close()


class Ends:
    """Tells the ends of jobs that train one cell each."""

    def __init__(self, num_cells: int) -> None:
        self._progress = PlainProgress()
        self._progress.start_study(num_cells, 0)

    def tell(self, cell: Cell, study: Prepared, cause: str | None) -> None:
        """One line of what the cell's record says; or where the job wrote none, of what went wrong in the job."""
        record = find_record(study.paths.run(cell.run_id).record)
        if record is not None and has_newly_ended(cell, study.paths, study.seen):
            self._progress.cell_done(cell.run_id, record.status, score_of(record))
            return
        logger.warning("%s: %s", cell.run_id, cause or "its job ended without a record")
        self._progress.cell_done(cell.run_id, "not complete", None)


def _check(specs: Sequence[RunSpec], settings: Settings) -> Prepared | HarnessError:
    try:
        # This machine may lack the GPU that the cells will have, and need not hold the base while it waits for them.
        checked = check_study(specs, dataclasses.replace(settings, device="cpu"))
    except (ConfigError, BadCellsError):
        raise
    except HarnessError as error:
        return error
    resources = Resources("cpu", checked.resources.cache_dir)
    return dataclasses.replace(checked, settings=settings, resources=resources)


def _begin(checked: Prepared) -> Prepared | HarnessError:
    try:
        begin_study(checked)
    except HarnessError as error:
        return error
    return checked
