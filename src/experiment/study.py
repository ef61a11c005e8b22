"""Run all cells of a study: skip what is done, resume what is half done, record what fails, and report."""

from __future__ import annotations

import csv
import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.comparison import StudyTable
from src.data import TaskData
from src.errors import BadCellsError, ConfigError, HarnessError, counted
from src.experiment.display.console import configure_logging, print_table
from src.experiment.halving import plan_races
from src.experiment.leftovers import forget, tidy
from src.experiment.processes.isolation import NO_LOSSES, Losses
from src.experiment.processes.sharing import ended_since, stamps
from src.experiment.resolve import Cell, resolve_cells
from src.experiment.resources import Resources
from src.experiment.session import score_of
from src.experiment.work import Prepared, work_on
from src.records import (
    Claims,
    RunRecord,
    StudyPaths,
    find_record,
    read_plan,
    read_study,
    write_plan,
)
from src.reporting import write_report
from src.reporting.mirror import summarise
from src.spec import RunSpec, Settings, slug
from src.tracking import mirror_study

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


def run_study(specs: Sequence[RunSpec], settings: Settings, losses: Losses = NO_LOSSES) -> StudyOutcome:
    """Run what is not done of a study, show its table, and write its report.

    Args:
        losses: what earlier processes of this command have left.

    Raises:
        ConfigError: some cell does not fit its model; nothing was started.
        InterruptedRunError: a stop was requested; the same command continues the study.
        HarnessError: the model or the data cannot be loaded, or the output folder cannot be written.
    """
    prepared = prepare_study(specs, settings, losses)
    try:
        work_on(prepared, losses)
    except BaseException:
        report_so_far(prepared.paths, settings)
        raise
    tables, sentences = report_study(prepared.paths, settings)
    if prepared.races:
        mirror(tables, sentences, prepared.paths, settings)
    return outcome(prepared)


def run_part(specs: Sequence[RunSpec], settings: Settings, losses: Losses = NO_LOSSES) -> StudyOutcome:
    """Run what is not done of some cells of a study that `prepare_study` has prepared; only their records are written.

    Raises:
        ConfigError, InterruptedRunError, HarnessError: as run_study.
    """
    prepared = check_study(specs, dataclasses.replace(settings, rerun=False), losses)
    configure_logging(prepared.paths.log)
    tidy(_not_pending(prepared), prepared.paths, Claims(prepared.paths))
    work_on(prepared, losses)
    return outcome(prepared)


def prepare_study(specs: Sequence[RunSpec], settings: Settings, losses: Losses = NO_LOSSES) -> Prepared:
    """Check every cell of a study, have its data and model at hand, and write down what is planned.

    Raises:
        ConfigError, BadCellsError: some cell does not fit its model or data; nothing was started.
        HarnessError: model or data cannot be had, or the output folder cannot be written.
    """
    if losses.happened:
        settings = dataclasses.replace(settings, rerun=False)
    prepared = check_study(specs, settings, losses)
    begin_study(prepared)
    return prepared


def begin_study(prepared: Prepared) -> None:
    """Forget what is to run again, and write down what is planned.

    Raises:
        HarnessError: the output folder cannot be written.
    """
    paths, num_cells, claims = prepared.paths, len(prepared.unique), Claims(prepared.paths)
    configure_logging(paths.log)
    if prepared.settings.rerun:
        forget(prepared.unique, paths, claims)
    tidy(_not_pending(prepared), paths, claims)
    # What another process has planned for the same study is not forgotten while it runs.
    planned = [*(cell.run_id for cell in prepared.unique), *(read_plan(paths) if claims.others() else ())]
    write_plan(list(dict.fromkeys(planned)), paths)
    done = num_cells - len(prepared.pending)
    logger.info("Study %s: %s, %d done", paths.name, counted(num_cells, "cell"), done)


def report_study(paths: StudyPaths, settings: Settings) -> tuple[StudyTable, list[str]]:
    """Write the report of what a study has on disk, and show its table.

    Raises:
        WriteError: the system refused to write.
    """
    tables, sentences = write_report(read_study(paths), paths, settings.within)
    print_table(tables, sentences, paths)
    return tables, sentences


def report_so_far(paths: StudyPaths, settings: Settings) -> None:
    """Report a study that an error ends, which is what is to be told then."""
    try:
        report_study(paths, settings)
    except HarnessError as error:  # on a full disk, say
        logger.warning("The report is not up to date: %s", error)


def outcome(prepared: Prepared) -> StudyOutcome:
    """What has become of the cells, as their records say now."""
    return StudyOutcome(tuple(find_record(prepared.paths.run(cell.run_id).record) for cell in prepared.cells))


def _not_pending(prepared: Prepared) -> list[Cell]:
    pending = {cell.run_id for cell in prepared.pending}
    return [cell for cell in prepared.unique if cell.run_id not in pending]


def check_study(specs: Sequence[RunSpec], settings: Settings, losses: Losses = NO_LOSSES) -> Prepared:
    """Check every cell against its model and its data, and see what is left to do; nothing of the study is changed.

    Raises:
        ConfigError, BadCellsError, HarnessError: as prepare_study.
    """
    configure_logging(None)
    _make_cache(Path(settings.cache_dir))
    settings = dataclasses.replace(settings, pack=1) if losses.cautious else settings
    resources = Resources(settings.device, Path(settings.cache_dir))
    paths = StudyPaths.of(settings.output_dir, settings.study)
    resolved = resolve_cells(specs, resources.cache_dir)
    cells = [dataclasses.replace(cell, alone=cell.run_id in losses.suspects) for cell in resolved]
    unique = list({cell.run_id: cell for cell in cells}.values())
    seen = stamps(unique, paths)
    halves = settings.halving.eta is not None
    pending = unique if settings.rerun else [cell for cell in unique if not is_done(cell, paths, resources, halves)]
    # What failed in an earlier process of this command has had its turn.
    pending = [cell for cell in pending if not ended_since(cell, paths, losses.since)]
    pending = sorted(pending, key=lambda cell: cell.alone)
    check_data(pending, resources)
    races = plan_races(unique, pending, settings.halving, resources)
    return Prepared(settings, paths, resources, tuple(cells), tuple(pending), tuple(races), seen)


def is_done(cell: Cell, paths: StudyPaths, resources: Resources, halves: bool) -> bool:
    """Completed, or diverged (which would only diverge again), on the data as they are now.

    Only local files are compared: what an asset or a hub id stands for does not change under its name.

    Args:
        halves: whether the study is halved; only then is a cell done that was ended by halving.
    """
    record = find_record(paths.run(cell.run_id).record)
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


def _make_cache(folder: Path) -> None:
    """Raises:
    HarnessError: no such folder can be made; what looks into it would blame the data.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(f"Cannot make cache_dir, the folder {folder}: {error.strerror or error}.") from error


def _check_metric(spec: RunSpec, data: TaskData) -> None:
    if spec.task.metric == "f1" and data.num_labels != 2:
        raise ConfigError(
            "task.metric", "f1", f"macro_f1 or accuracy: f1 is for two classes, here are {data.num_labels}"
        )


def mirror(tables: StudyTable, sentences: list[str], paths: StudyPaths, settings: Settings) -> None:
    """Send tables and figures to the study's summarising run, where there is more than one run to summarise."""
    if sum(len(table.ranked) + len(table.problems) for table in tables.tables) < 2:
        return
    try:
        mirror_study(settings.tracking, summarise(paths, tables, sentences))
    except (OSError, ValueError, csv.Error) as error:
        logger.warning("The study's tables and figures were not sent: %s", error)
