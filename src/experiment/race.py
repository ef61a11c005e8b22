"""Run the cells of a race from rung to rung; without rungs, from start to end."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

from src.experiment.display.steps import forget_step
from src.experiment.halving import Race, has_reached, is_paused, judge
from src.experiment.outcome import summarise
from src.experiment.packing.plan import share_groups
from src.experiment.packing.slots import Slots, in_turn
from src.experiment.resolve import Cell
from src.experiment.session import Session
from src.records import Elimination, find_record, read_record, remove_folder, write_record
from src.training.checkpoint import drop_unfinished, find_steps

logger = logging.getLogger(__name__)
RunPack = Callable[[Slots, Session, int | None], None]


def run_race(race: Race, session: Session, run: RunPack) -> None:
    """Train the pending cells; at each rung, end those that fall behind.

    A race with rungs is run by one process at a time, because its cells are held against each other.

    Args:
        run: trains a pack, and what takes its free places, to a step or to the end, and leaves a record of each cell.

    Raises:
        InterruptedRunError: a stop was requested.
        HarnessError: the base cannot be loaded, or a file cannot be written.
    """
    with session.shared.exclusive(".halving") if race.rungs else nullcontext():
        _run_rungs(race, session, run)


def _run_rungs(race: Race, session: Session, run: RunPack) -> None:
    cells, passed = list(race.pending), None
    for number, step in enumerate(race.rungs, start=1):
        behind = [cell for cell in cells if not has_reached(find_record(session.run_paths(cell).record), step)]
        _run_packs(behind, session, run, regroup_at=passed, until=step)
        records = {cell.run_id: find_record(session.run_paths(cell).record) for cell in race.cells}
        verdicts = judge(race.cells, records, number, step, session.settings.halving)
        with session.shared.hold([cell for cell in cells if cell.run_id in verdicts]) as lost:
            for cell in lost:
                _end(cell, verdicts[cell.run_id], session)
        waiting = [cell for cell in cells if is_paused(find_record(session.run_paths(cell).record))]
        logger.info("Rung %d at step %d: %d cells ended, %d go on", number, step, len(verdicts), len(waiting))
        cells, passed = waiting, step
    _run_packs(cells, session, run, regroup_at=passed, until=None)


def _run_packs(
    cells: Sequence[Cell], session: Session, run: RunPack, *, regroup_at: int | None, until: int | None
) -> None:
    """Bring cells to a step or to their end; those that another process trains are left to it unless it gives up."""
    shared, left = session.shared, list(cells)
    shared.taken.clear()
    while left:
        shared.wait_for(left)
        for slots in _packs(left, session, regroup_at):
            run(slots, session, until)
        left = [cell for cell in left if cell.run_id not in shared.taken and not _is_there(cell, session, until)]


def _packs(cells: Sequence[Cell], session: Session, regroup_at: int | None) -> Iterator[Slots]:
    shared = session.shared
    free = [cell for cell in shared.free(cells) if not shared.settled(cell)]
    folders = {cell.run_id: session.run_paths(cell).checkpoints for cell in free}
    begun = [cell for cell in free if find_steps(folders[cell.run_id])]
    unbegun = folders.keys() - {cell.run_id for cell in begun}
    with shared.hold(begun) as held:
        drop_unfinished({cell.run_id: folders[cell.run_id] for cell in held}, unbegun)
    for group in share_groups(free):
        # Outside of the pack: what is wrong with a base is wrong with the study, not with one cell.
        session.resources.base(group[0].spec)
        yield from in_turn(group, session.packs, session.paths, regroup_at, shared)


def _is_there(cell: Cell, session: Session, until: int | None) -> bool:
    """Whether another process has brought a cell to where it was to come."""
    return session.shared.settled(cell) or (
        until is not None and has_reached(find_record(session.run_paths(cell).record), until)
    )


def _end(cell: Cell, verdict: Elimination, session: Session) -> None:
    """Turn the record of a cell that pauses into its last one."""
    paths = session.run_paths(cell)
    record = dataclasses.replace(read_record(paths.record), status="eliminated", eliminated=verdict)
    write_record(record, paths.record)
    remove_folder(paths.checkpoints)
    forget_step(paths.progress)
    session.start_tracker(cell, verdict.step).finish(record.status, summarise(record))
    session.report_cell(record)
