"""The places of a running pack: who trains, and who waits for a place that becomes free."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from src.errors import HarnessError
from src.experiment.packing.plan import Pack, Sizes, common_step, plan_packs
from src.experiment.processes.sharing import Alone
from src.experiment.resolve import Cell
from src.records import StudyPaths
from src.training.checkpoint import read_roster


@dataclass
class Slots:
    """Places in one pack.

    Attributes:
        cells: those that train, or are to train first, in the order of their lanes.
        size: most cells that train at a time.
        waiting: cells that no pack has begun and that may train beside these; the packs to come are made of them.
        shared: where cells are taken from, and given back to.
    """

    cells: list[Cell]
    size: int
    waiting: deque[Cell] = field(default_factory=deque)
    shared: Alone = field(default_factory=Alone)

    def only(self, cells: Sequence[Cell]) -> Slots:
        """Places for some of the cells, and nobody waits."""
        return Slots(list(cells), len(cells), shared=self.shared)

    def fill(self) -> list[Cell]:
        """Give free places to cells that wait.

        Returns:
            Those that got one.
        """
        before = len(self.cells)
        while self.waiting and len(self.cells) < self.size:
            self.cells += self.shared.take_pack([self.waiting.popleft()])
        return self.cells[before:]

    def leave(self, cell: Cell) -> None:
        """A cell has ended, or pauses: its place is free."""
        self.cells.remove(cell)
        self.shared.give_back(cell)


def in_turn(
    cells: Sequence[Cell], sizes: Sizes, paths: StudyPaths, regroup_at: int | None, shared: Alone
) -> Iterator[Slots]:
    """Packs of cells that can train together, one after the other, those that continue first.

    What a pack takes in on its way is missing in the later ones, which are planned anew then: a study that is continued
    in the middle plans them from what is left, too, and comes to the same.

    Args:
        sizes, paths, regroup_at: as at `plan_packs`.
        shared: where the cells are taken from; packs that somebody else has taken are left out.
    """
    planned = plan_packs(cells, sizes, paths, regroup_at=regroup_at)
    former = [(pack, _former_size(pack, paths, regroup_at)) for pack in planned]
    packs = deque(pack for pack, size in former if not size)
    waiting = deque(cell for pack in packs for cell in pack)
    for pack, size in former:
        if size and (mine := shared.take_pack(pack)):
            yield Slots(mine, min(size, sizes.most(cells)), waiting, shared)
    while waiting:
        if len(waiting) != sum(map(len, packs)) or len(packs[0]) > sizes.most(packs[0]):
            packs = deque(plan_packs(list(waiting), sizes, paths, regroup_at=regroup_at))
        pack = packs.popleft()
        if first := shared.take_pack([waiting.popleft() for _ in pack]):
            yield Slots(first, len(pack), waiting, shared)


def _former_size(pack: Pack, paths: StudyPaths, regroup_at: int | None) -> int:
    """Lanes of a pack when its newest checkpoint was written, with those that have ended since; 0 of a new pack."""
    step = common_step(pack, paths)
    if step in {0, regroup_at}:
        return 0
    try:
        return len(read_roster(paths.run(pack[0].run_id).checkpoints, step))
    except HarnessError:  # damaged: said where it is loaded
        return len(pack)
