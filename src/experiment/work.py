"""Train the pending cells of a study; a pack that fails is run in halves, so that only the guilty cells fail."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from src.errors import InterruptedRunError, WriteError
from src.experiment.display.console import make_progress
from src.experiment.display.steps import forget_step
from src.experiment.halving import Race
from src.experiment.outcome import describe_failure
from src.experiment.pack import run_pack
from src.experiment.packing.memory import DoesNotFitError, is_out_of_memory, release_memory
from src.experiment.packing.pack_size import PackSizes
from src.experiment.packing.plan import Pack, chunks
from src.experiment.packing.slots import Slots
from src.experiment.processes.isolation import KilledError, Losses
from src.experiment.processes.sharing import Shared
from src.experiment.processes.signals import stop_on_signals
from src.experiment.race import run_race
from src.experiment.resolve import Cell
from src.experiment.resources import Resources
from src.experiment.session import Session
from src.records import StudyPaths, write_record
from src.spec import Settings
from src.tracking import make_tracker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A study whose cells have been checked, and what is left to do of it.

    Attributes:
        cells: in the order of the specs, duplicates included.
        pending: those that are to run, each once.
        seen: what lay on disk of each when that was decided.
    """

    settings: Settings
    paths: StudyPaths
    resources: Resources
    cells: tuple[Cell, ...]
    pending: tuple[Cell, ...]
    races: tuple[Race, ...]
    seen: Mapping[str, int | None]

    @property
    def unique(self) -> tuple[Cell, ...]:
        """Every cell once."""
        return tuple({cell.run_id: cell for cell in self.cells}.values())


def work_on(todo: Prepared, losses: Losses) -> None:
    """Train what is pending, and record what killed a process.

    Raises:
        InterruptedRunError: a stop was requested.
        HarnessError: the base cannot be loaded, or a file cannot be written.
    """
    if not todo.races:
        return
    settings = todo.settings
    # The tracker is still closed, for which it may wait, under the handlers that only ask.
    with stop_on_signals() as stop:
        progress, tracker = make_progress(sys.stderr), make_tracker(settings.tracking)
        try:
            with closing(Shared(todo.paths, todo.seen, stop)) as shared:
                packs = PackSizes(settings.pack, todo.resources, progress, stop)
                session = Session(settings, todo.paths, todo.resources, progress, tracker, stop, packs, shared)
                progress.start_study(len(todo.unique), len(todo.unique) - len(todo.pending))
                _record_killed(todo.pending, losses, session)
                for race in todo.races:
                    run_race(race, session, _run_or_split)
        finally:
            progress.stop()
            tracker.close()
        _heed(stop)


def _heed(stop: threading.Event) -> None:
    """Raises:
    InterruptedRunError: a stop was requested.
    """
    if stop.is_set():
        raise InterruptedRunError("Stopped as asked; run the same command again to continue.")


def _record_killed(cells: Sequence[Cell], losses: Losses, session: Session) -> None:
    for cell in cells:
        if cell.run_id in losses.killed and session.shared.take_pack([cell]):
            _record_failure(cell, KilledError(losses.killed[cell.run_id]), session)
            session.shared.give_back(cell)


def _run_or_split(slots: Slots, session: Session, until: int | None) -> None:
    """Run a pack; if it fails, run its halves, so that in the end only the guilty cells fail.

    Where memory has run out, all packs of such cells are smaller from then on. Cells that ended before the failure have
    their records; those that wait are left to the packs that come after.
    """
    _heed(session.stop)
    most = session.packs.most([*slots.cells, *slots.waiting])
    if len(slots.cells) > most:
        for part in chunks(slots.cells, most):
            _run_or_split(Slots(list(part), most, slots.waiting, slots.shared), session, until)
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
        slots.leave(slots.cells[0])
        return
    # What its frames hold, such as activations, would take the memory that the halves need.
    traceback.clear_frames(failed.__traceback__)
    for part in _halves(slots.cells, failed, session):
        _run_or_split(slots.only(part), session, until)


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
    paths = session.run_paths(cell)
    write_record(record, paths.record)
    forget_step(paths.progress)
    session.report_cell(record)
    logger.error("%s failed: %s: %s", record.run_id, type(failed).__name__, failed, exc_info=failed)
