"""Which cells train together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from src.errors import HarnessError
from src.experiment.resolve import Cell
from src.records import StudyPaths
from src.spec import TEXT_KINDS
from src.training.checkpoint import find_steps, read_roster

Pack = tuple[Cell, ...]


def plan_packs(
    cells: Sequence[Cell], pack_size: int, paths: StudyPaths, *, regroup_at: int | None = None
) -> list[Pack]:
    """Group cells into packs of at most `pack_size`.

    Cells that were interrupted together continue together, which makes their result the same to the last bit.
    The rest is grouped by what a pack must share, cells of one seed side by side: they see the same batches, so no
    row is padded for the sake of another lane.

    Args:
        regroup_at: cells whose newest checkpoint is of this step form new packs, because others of theirs have ended.
    """
    resumed = [pack for whole in _resumed_packs(cells, paths, regroup_at) for pack in _chunks(whole, pack_size)]
    taken = {cell.run_id for pack in resumed for cell in pack}
    fresh = sorted((cell for cell in cells if cell.run_id not in taken), key=lambda cell: cell.spec.seed)
    groups: dict[Any, list[Cell]] = {}
    for cell in fresh:
        groups.setdefault(share_key(cell), []).append(cell)
    sizes = (1 if trains_alone(group[0]) else pack_size for group in groups.values())
    return resumed + [pack for group, size in zip(groups.values(), sizes, strict=True) for pack in _chunks(group, size)]


def share_key(cell: Cell) -> tuple[Any, ...]:
    """What the lanes of a pack have in common: base, method, data, loop, and that there is something to train."""
    spec = cell.spec
    trains = cell.setup.allocation.parameters > 0 or spec.task.kind not in TEXT_KINDS
    return spec.model, spec.task, spec.trainer, spec.method.name, trains, trains_alone(cell)


def trains_alone(cell: Cell) -> bool:
    """Methods other than LoRA change the base as a whole, and some matrices also meet rows that are no lane's own."""
    return cell.spec.method.name != "lora" or any(p.shared_rows for p in cell.setup.projections)


def common_step(pack: Pack, paths: StudyPaths) -> int:
    """The newest step of which every cell has a whole checkpoint, 0 without one."""
    return max(set.intersection(*(set(find_steps(paths.run(cell.run_id).checkpoints)) for cell in pack)), default=0)


def _resumed_packs(cells: Sequence[Cell], paths: StudyPaths, regroup_at: int | None) -> list[Pack]:
    """Cells with checkpoints, as they were together when the newest was written.

    Members of such a pack that have none yet belong to it as well: it was killed while writing its first ones.
    """
    free = {cell.run_id: cell for cell in cells}
    packs: list[Pack] = []
    for cell in cells:
        roster = _latest_roster(cell, paths, regroup_at) if cell.run_id in free else ()
        pack = tuple(free.pop(run_id) for run_id in roster if run_id in free)
        packs += [pack] if pack else []
    return packs


def _latest_roster(cell: Cell, paths: StudyPaths, regroup_at: int | None) -> tuple[str, ...]:
    folder = paths.run(cell.run_id).checkpoints
    steps = find_steps(folder)
    try:
        return read_roster(folder, steps[-1]) if steps and steps[-1] != regroup_at else ()
    except HarnessError:  # damaged: on its own the cell fails with that error and takes no other with it
        return (cell.run_id,)


def _chunks(cells: Sequence[Cell], size: int) -> list[Pack]:
    return [tuple(cells[start : start + size]) for start in range(0, len(cells), size)]
