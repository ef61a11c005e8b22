"""Which cells train together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from src.errors import HarnessError
from src.experiment.packing.pack_table import PackTable, divide
from src.experiment.resolve import Cell
from src.records import StudyPaths
from src.spec import TEXT_KINDS
from src.training.checkpoint import find_steps, read_roster

Pack = tuple[Cell, ...]
# Most that padding for other lanes' sake may add to a pack's rows where smaller packs are no slower.
MOST_PADDING = 0.1


@dataclass(frozen=True)
class PackSize:
    """How to part a group of cells into packs.

    Attributes:
        size: most cells of a pack.
        table: what packs of several sizes take; None where that is not known.
        padding: share of rows that a pack computes beyond those of its cells alone; None where texts are not padded.
    """

    size: int
    table: PackTable | None = None
    padding: Callable[[Sequence[Cell]], float] | None = None


class Sizes(Protocol):
    """Says how many cells may train together."""

    def most(self, cells: Sequence[Cell]) -> int:
        """The largest pack of these cells that fits into memory, as far as is known."""

    def choose(self, cells: Sequence[Cell]) -> PackSize:
        """Size of the packs into which to part these cells, which can train together."""


@dataclass(frozen=True)
class FixedSize:
    """The same for all cells."""

    size: int

    def most(self, cells: Sequence[Cell]) -> int:
        return self.size

    def choose(self, cells: Sequence[Cell]) -> PackSize:
        return PackSize(self.size)


def plan_packs(
    cells: Sequence[Cell], pack_size: int | Sizes, paths: StudyPaths, *, regroup_at: int | None = None
) -> list[Pack]:
    """Group cells into packs.

    Cells that were interrupted together continue together, which makes their result the same to the last bit.
    The rest is grouped by what a pack must share, and within a group by seed, matrices and rank: cells of one seed see
    the same batches, so no row is padded for the sake of another lane, and like ranks share a product
    (src/adapters/lane_linear.py). The packs of a group are of nearly equal size.

    Args:
        pack_size: most cells of a pack, or what says so for each group.
        regroup_at: cells whose newest checkpoint is of this step form new packs, because others of theirs have ended.
    """
    sizes = FixedSize(pack_size) if isinstance(pack_size, int) else pack_size
    former = _resumed_packs(cells, paths, regroup_at)
    resumed = [part for pack in former for part in chunks(pack, sizes.most(pack))]
    taken = {cell.run_id for pack in resumed for cell in pack}
    fresh = [cell for cell in cells if cell.run_id not in taken]
    return resumed + [pack for group in share_groups(fresh) for pack in _part(group, sizes)]


def share_groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that can train together, in the order of their first."""
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(share_key(cell), []).append(cell)
    return list(groups.values())


def share_key(cell: Cell) -> tuple[Any, ...]:
    """What the lanes of a pack have in common: base, method, data, loop, and that there is something to train."""
    spec = cell.spec
    return spec.model, spec.task, spec.trainer, spec.method.name, trains(cell), trains_alone(cell)


def trains(cell: Cell) -> bool:
    """Whether there is anything to train: adapters, another method's values, or a task head."""
    return cell.setup.allocation.parameters > 0 or cell.spec.task.kind not in TEXT_KINDS


def trains_alone(cell: Cell) -> bool:
    """Methods other than LoRA change the base as a whole, and some matrices also meet rows that are no lane's own."""
    return cell.alone or cell.spec.method.name != "lora" or any(p.shared_rows for p in cell.setup.projections)


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
    if cell.alone:
        return (cell.run_id,) if steps else ()
    try:
        return read_roster(folder, steps[-1]) if steps and steps[-1] != regroup_at else ()
    except HarnessError:  # damaged: on its own the cell fails with that error and takes no other with it
        return (cell.run_id,)


def _part(group: Sequence[Cell], sizes: Sizes) -> list[Pack]:
    """Packs of a group: over all seeds, unless packs of one seed each come to less time for want of padding."""
    if trains_alone(group[0]):
        return [(cell,) for cell in group]
    size, ordered = sizes.choose(group), in_order(group)
    packs = _divided(ordered, size)
    table, padding = size.table, size.padding
    if table is None or padding is None or all(padding(pack) <= MOST_PADDING for pack in packs):
        return packs
    seeds = itertools.groupby(ordered, key=lambda cell: cell.spec.seed)
    unmixed = [pack for _, own in seeds for pack in _divided(list(own), size)]
    padded = sum(table.seconds([len(pack)]) * (1 + padding(pack)) for pack in packs)
    return packs if padded <= table.seconds([len(pack) for pack in unmixed]) else unmixed


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Cells that are most alike side by side: by the lowest adapted layer, seed, matrices and rank.

    Below the lowest layer that one of its cells adapts, a pack has nothing to differentiate.
    """
    return sorted(cells, key=lambda c: (_lowest_layer(c), c.spec.seed, c.spec.lora.targets, c.setup.allocation.rank))


def _lowest_layer(cell: Cell) -> float:
    return min((projection.layer for projection in cell.setup.projections), default=math.inf)


def _divided(cells: Sequence[Cell], size: PackSize) -> list[Pack]:
    ends = list(itertools.accumulate(divide(len(cells), size.size, size.table), initial=0))
    return [tuple(cells[start:end]) for start, end in itertools.pairwise(ends)]


def chunks(cells: Sequence[Cell], size: int) -> list[Pack]:
    """Packs of `size` cells, in their order; the last may be smaller."""
    return [tuple(cells[start : start + size]) for start in range(0, len(cells), size)]
