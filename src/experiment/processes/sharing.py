"""The cells of a study between processes that run it at the same time: each is trained by one of them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from src.errors import InterruptedRunError, counted
from src.experiment.resolve import Cell
from src.records import Claims, StudyPaths, find_record

logger = logging.getLogger(__name__)

# Seconds between two looks at what others hold.
POLL_S = 1.0


class Alone:
    """Nobody else runs these cells."""

    def take_pack(self, cells: Sequence[Cell]) -> list[Cell]:
        """All of them."""
        return list(cells)

    def give_back(self, cell: Cell) -> None:
        """There is nobody to give it to."""


class Shared(Alone):
    """A study's cells, where other processes may run the same study.

    Args:
        seen: `stamps` of its cells when this process decided what to run; what others have recorded since is theirs.
        stop: set when this process is to stop, also while it waits for others.

    Attributes:
        taken: run ids of what `take_pack` gave.
    """

    def __init__(self, paths: StudyPaths, seen: Mapping[str, int | None], stop: threading.Event) -> None:
        self._paths, self._seen, self._stop, self._claims = paths, seen, stop, Claims(paths)
        self._settled: set[str] = set()
        self._waited = False
        self.taken: set[str] = set()

    def take_pack(self, cells: Sequence[Cell]) -> list[Cell]:
        """Claim cells that are to train together.

        Returns:
            Those that are not settled; none where another process was quicker with one of them.
        """
        mine: list[Cell] = []
        for cell in cells:
            if not self._claims.take(cell.run_id):
                for taken in mine:
                    self.give_back(taken)
                return []
            if self.settled(cell):
                self.give_back(cell)
            else:
                mine.append(cell)
        self.taken |= {cell.run_id for cell in mine}
        return mine

    def give_back(self, cell: Cell) -> None:
        """The cell has its record, or another process may have it."""
        self._claims.release(cell.run_id)

    def settled(self, cell: Cell) -> bool:
        """Whether a record has been written since this process began, and says how the cell ended."""
        if cell.run_id not in self._settled:
            self._settled |= {cell.run_id} if has_newly_ended(cell, self._paths, self._seen) else set()
        return cell.run_id in self._settled

    def free(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those that no other process holds."""
        others = self._claims.others()
        return [cell for cell in cells if cell.run_id not in others]

    def wait_for(self, cells: Sequence[Cell]) -> None:
        """Wait until another process lets go of some of these cells.

        Raises:
            InterruptedRunError: a stop was requested.
        """
        while not self.free(cells):
            if not self._waited:
                self._waited = True
                some = next((held for name, held in self._claims.others().items() if not name.startswith(".")), None)
                who = f"process {some.pid} on {some.host}" if some else "another process"
                logger.warning("Waiting for the last %s, which %s has", counted(len(cells), "cell"), who)
            self._pause()

    @contextmanager
    def hold(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """Claim those of the cells that nobody has, for a moment."""
        held = [cell for cell in cells if self._claims.take(cell.run_id, to_train=False)]
        try:
            yield held
        finally:
            for cell in held:
                self.give_back(cell)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Do something that only one process may do at a time; others wait.

        Raises:
            InterruptedRunError: a stop was requested while waiting.
        """
        while not self._claims.take(name):
            self._pause()
        try:
            yield
        finally:
            self._claims.release(name)

    def close(self) -> None:
        """Give everything back."""
        self._claims.close()

    def _pause(self) -> None:
        if self._stop.wait(POLL_S):
            raise InterruptedRunError("Stopped as asked while waiting for another process; run the same command again.")


def stamps(cells: Sequence[Cell], paths: StudyPaths) -> dict[str, int | None]:
    """By run id, when each cell's record was written, None without one; to tell whether it is written again."""
    return {cell.run_id: _stamp(cell, paths) for cell in cells}


def has_newly_ended(cell: Cell, paths: StudyPaths, seen: Mapping[str, int | None]) -> bool:
    """Whether a record has been written since `stamps` were taken, and says how the cell ended."""
    return _stamp(cell, paths) != seen.get(cell.run_id) and _has_ended(cell, paths)


def ended_since(cell: Cell, paths: StudyPaths, since: float | None) -> bool:
    """Whether a record has been written since a Unix time (seconds), and says how the cell ended."""
    stamp = _stamp(cell, paths)
    return since is not None and stamp is not None and stamp >= since * 1e9 and _has_ended(cell, paths)


def _has_ended(cell: Cell, paths: StudyPaths) -> bool:
    record = find_record(paths.run(cell.run_id).record)
    return record is not None and record.status != "interrupted"


def _stamp(cell: Cell, paths: StudyPaths) -> int | None:
    try:
        # Opened first: NFS then asks the server for the time of the last change.
        with paths.run(cell.run_id).record.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime_ns
    except OSError:
        return None
