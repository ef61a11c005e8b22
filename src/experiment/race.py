"""Run the cells of a race from rung to rung; without rungs, from start to end."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable, Sequence

from src.experiment.halving import Race, has_reached, is_paused, judge
from src.experiment.outcome import summarise
from src.experiment.plan import share_groups
from src.experiment.resolve import Cell
from src.experiment.session import Session
from src.experiment.slots import Slots, in_turn
from src.records import Elimination, RecordError, RunRecord, read_record, write_record
from src.training.checkpoint import drop_unfinished

logger = logging.getLogger(__name__)
RunPack = Callable[[Slots, Session, int | None], None]


def run_race(race: Race, session: Session, run: RunPack) -> None:
    """Train the pending cells; at each rung, end those that fall behind.

    Args:
        run: trains a pack, and what takes its free places, to a step or to the end, and leaves a record of each cell.

    Raises:
        InterruptedRunError: a stop was requested.
        HarnessError: the base cannot be loaded, or a file cannot be written.
    """
    cells, passed = list(race.pending), None
    for number, step in enumerate(race.rungs, start=1):
        behind = [cell for cell in cells if not has_reached(_read(cell, session), step)]
        _run_packs(behind, session, run, regroup_at=passed, until=step)
        records = {cell.run_id: _read(cell, session) for cell in race.cells}
        verdicts = judge(race.cells, records, number, step, session.settings.halving)
        for cell in cells:
            if cell.run_id in verdicts:
                _end(cell, verdicts[cell.run_id], session)
        waiting = [cell for cell in cells if is_paused(_read(cell, session))]
        logger.info("Rung %d at step %d: %d cells ended, %d go on", number, step, len(verdicts), len(waiting))
        cells, passed = waiting, step
    _run_packs(cells, session, run, regroup_at=passed, until=None)


def _run_packs(
    cells: Sequence[Cell], session: Session, run: RunPack, *, regroup_at: int | None, until: int | None
) -> None:
    drop_unfinished({cell.run_id: session.run_paths(cell).checkpoints for cell in cells})
    for group in share_groups(cells):
        # Outside of the pack: what is wrong with a base is wrong with the study, not with one cell.
        session.resources.base(group[0].spec)
        for slots in in_turn(group, session.packs, session.paths, regroup_at):
            run(slots, session, until)


def _end(cell: Cell, verdict: Elimination, session: Session) -> None:
    """Turn the record of a cell that pauses into its last one."""
    paths = session.run_paths(cell)
    record = dataclasses.replace(read_record(paths.record), status="eliminated", eliminated=verdict)
    write_record(record, paths.record)
    shutil.rmtree(paths.checkpoints, ignore_errors=True)
    session.start_tracker(cell).finish(record.status, summarise(record))
    session.report_cell(record)


def _read(cell: Cell, session: Session) -> RunRecord | None:
    try:
        return read_record(session.run_paths(cell).record)
    except RecordError:
        return None
