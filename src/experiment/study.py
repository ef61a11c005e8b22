"""Run all cells of a study: skip what is done, resume what is half done, record what fails, and report."""

from __future__ import annotations

import csv
import logging
import shutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.comparison import StudyTable
from src.data import TaskData
from src.errors import BadCellsError, ConfigError, HarnessError, InterruptedRunError, WriteError
from src.experiment.console import configure_logging, make_progress, print_table
from src.experiment.halving import Race, plan_races
from src.experiment.memory import DoesNotFitError, is_out_of_memory, release_memory
from src.experiment.outcome import describe_failure
from src.experiment.pack import run_pack
from src.experiment.pack_size import PackSizes
from src.experiment.plan import Pack, chunks
from src.experiment.race import run_race
from src.experiment.resolve import Cell, resolve_cells
from src.experiment.resources import Resources
from src.experiment.session import Session, score_of
from src.experiment.signals import stop_on_signals
from src.experiment.slots import Slots
from src.records import (
    RecordError,
    RunRecord,
    StudyPaths,
    read_record,
    read_study,
    write_plan,
    write_record,
)
from src.reporting import write_report
from src.reporting.mirror import summarise
from src.spec import RunSpec, Settings, slug
from src.tracking import make_tracker, mirror_study

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyOutcome:
    """What a study came to, cell by cell in the order of the specs.

    Attributes:
        records: None where a cell was not reached.
    """

    records: tuple[RunRecord | None, ...]

    @property
    def scores(self) -> list[float | None]:
        """Validation scores."""
        return [None if record is None else score_of(record) for record in self.records]

    @property
    def num_failed(self) -> int:
        """Cells that neither completed nor were ended by halving: failed, diverged, interrupted or not reached."""
        return sum(record is None or record.status not in {"completed", "eliminated"} for record in self.records)


def run_study(specs: Sequence[RunSpec], settings: Settings) -> StudyOutcome:
    """Run what is not done of a study, show its table, and write its report.

    Raises:
        ConfigError: some cell does not fit its model; nothing was started.
        InterruptedRunError: a stop was requested; the same command continues the study.
        HarnessError: the model or the data cannot be loaded, or the output folder cannot be written.
    """
    configure_logging(None)
    resources = Resources(settings.device, Path(settings.cache_dir))
    cells = resolve_cells(specs, resources.cache_dir)
    paths = StudyPaths.of(settings.output_dir, settings.study)
    unique = list({cell.run_id: cell for cell in cells}.values())
    halves = settings.halving.eta is not None
    pending = unique if settings.rerun else [cell for cell in unique if not is_done(cell, paths, resources, halves)]
    check_data(pending, resources)
    races = plan_races(unique, pending, settings.halving, resources)
    configure_logging(paths.log)
    if settings.rerun:
        _forget(unique, paths)
    write_plan([cell.run_id for cell in unique], paths)
    logger.info("Study %s: %d cells, %d of them done", paths.name, len(unique), len(unique) - len(pending))
    try:
        _run_races(races, len(unique), settings, paths, resources)
    except BaseException:
        _report(paths, settings)
        raise
    tables, sentences = _report(paths, settings)
    if races:
        _mirror(tables, sentences, paths, settings)
    return StudyOutcome(tuple(_read(cell, paths) for cell in cells))


def is_done(cell: Cell, paths: StudyPaths, resources: Resources, halves: bool) -> bool:
    """Completed, or diverged (which would only diverge again), on the data as they are now.

    Only local files are compared: what an asset or a hub id stands for does not change under its name.

    Args:
        halves: whether the study is halved; only then is a cell done that was ended by halving.
    """
    record = _read(cell, paths)
    if record is None or record.status not in {"completed", "diverged", *(["eliminated"] if halves else [])}:
        return False
    local = Path(cell.spec.task.path).expanduser().exists()
    if local and record.data.get("sha256") != resources.data(cell.spec).report["sha256"]:
        logger.warning("%s was trained on other contents of %s and runs again", cell.run_id, cell.spec.task.path)
        return False
    return True


def check_data(cells: Sequence[Cell], resources: Resources) -> None:
    """Load the data of every cell, and the base of the first: what is wrong with them is found before any training.

    Raises:
        ConfigError: the data of the only cell do not fit its config.
        BadCellsError: names each cell whose data do not fit its config.
        HarnessError: data or model cannot be had.
    """
    problems: list[tuple[str, ConfigError]] = []
    for cell in cells:
        try:
            _check_metric(cell.spec, resources.data(cell.spec))
        except ConfigError as error:
            if len(cells) == 1:
                raise
            problems.append((slug(cell.spec), error))
    if problems:
        raise BadCellsError(problems, len(cells))
    if cells:
        resources.base(cells[0].spec)


def _check_metric(spec: RunSpec, data: TaskData) -> None:
    if spec.task.metric == "f1" and data.num_labels != 2:
        raise ConfigError(
            "task.metric", "f1", f"macro_f1 or accuracy: f1 is for two classes, here are {data.num_labels}"
        )


def _run_races(races: Sequence[Race], total: int, settings: Settings, paths: StudyPaths, resources: Resources) -> None:
    if not races:
        return
    progress, tracker = make_progress(sys.stderr), make_tracker(settings.tracking)
    try:
        with stop_on_signals() as stop:
            packs = PackSizes(settings.pack, resources, progress, stop)
            session = Session(settings, paths, resources, progress, tracker, stop, packs)
            progress.start_study(total, total - sum(len(race.pending) for race in races))
            for race in races:
                run_race(race, session, _run_or_split)
    finally:
        progress.stop()
        tracker.close()


def _run_or_split(slots: Slots, session: Session, until: int | None) -> None:
    """Run a pack; if it fails, run its halves, so that in the end only the guilty cells fail.

    Where memory has run out, all packs of such cells are smaller from then on. Cells that ended before the failure have
    their records; those that wait are left to the packs that come after.
    """
    most = session.packs.most([*slots.cells, *slots.waiting])
    if len(slots.cells) > most:
        for part in chunks(slots.cells, most):
            _run_or_split(Slots(list(part), most, slots.waiting), session, until)
        return
    slots.size = min(slots.size, most)
    try:
        run_pack(slots, session, until)
        return
    except (InterruptedRunError, WriteError, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit from a library: the other cells must run
        failed = error
    if len(slots.cells) == 1:
        _record_failure(slots.cells[0], failed, session)
        return
    # What its frames hold, such as activations, would take the memory that the halves need.
    traceback.clear_frames(failed.__traceback__)
    for part in _halves(slots.cells, failed, session):
        _run_or_split(Slots.only(part), session, until)


def _halves(cells: Sequence[Cell], failed: BaseException, session: Session) -> list[Pack]:
    """The packs in which to go on; the cells have not ended."""
    half = (len(cells) + 1) // 2
    if not cells:
        logger.warning("A pack failed after its last cell had ended: %s", failed)
        return []
    if is_out_of_memory(failed):
        logger.warning("Memory ran out with %d cells in a pack; going on with at most %d", len(cells), half)
        session.packs.lower(cells, half)
        release_memory(session.resources.device)
    else:
        logger.warning("A pack of %d cells failed (%s); running it in halves", len(cells), failed)
    return chunks(cells, half)


def _record_failure(cell: Cell, failed: BaseException, session: Session) -> None:
    if is_out_of_memory(failed):
        cause = DoesNotFitError(session.resources.device)
        cause.__cause__, failed = failed, cause
    record = describe_failure(cell, failed, session.environment(cell), session.known_tracking(cell))
    write_record(record, session.run_paths(cell).record)
    session.report_cell(record)
    logger.error("%s failed: %s: %s", record.run_id, type(failed).__name__, failed, exc_info=failed)


def _forget(cells: Sequence[Cell], paths: StudyPaths) -> None:
    """Remove what earlier runs of these cells left, the record first, so that nothing half-removed looks complete."""
    for cell in cells:
        run = paths.run(cell.run_id)
        try:
            run.record.unlink(missing_ok=True)
            if run.root.exists():
                shutil.rmtree(run.root)
        except OSError as error:
            raise HarnessError(f"Cannot remove {run.root} to run it again: {error.strerror or error}.") from error


def _report(paths: StudyPaths, settings: Settings) -> tuple[StudyTable, list[str]]:
    tables, sentences = write_report(read_study(paths), paths, settings.within)
    print_table(tables, sentences, paths)
    return tables, sentences


def _mirror(tables: StudyTable, sentences: list[str], paths: StudyPaths, settings: Settings) -> None:
    """Send tables and figures to the study's summarising run, where there is more than one run to summarise."""
    if sum(len(table.ranked) + len(table.problems) for table in tables.tables) < 2:
        return
    try:
        mirror_study(settings.tracking, summarise(paths, tables, sentences))
    except (OSError, ValueError, csv.Error) as error:
        logger.warning("The study's tables and figures were not sent: %s", error)


def _read(cell: Cell, paths: StudyPaths) -> RunRecord | None:
    try:
        return read_record(paths.run(cell.run_id).record)
    except RecordError:
        return None
