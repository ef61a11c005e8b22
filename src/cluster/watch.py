"""Wait for submitted tasks: by the files that they write, and by squeue for those that write none."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from src.cluster.queue import read_queue
from src.cluster.state import CellState, Queue, StudyView, headline
from src.cluster.submission import Submission
from src.records.text import one_line

logger = logging.getLogger(__name__)

# Seconds between two looks at the files; squeue, which all users of a cluster share, is asked less often.
POLL_S = 1.0
QUEUE_S = 10.0
# A task between two states, or a record that this machine does not see yet, is not lost.
CONFIRM_S = 12.0
# Seconds without any answer of squeue after which only tasks that show signs of life are waited for.
SILENCE_S = 600.0
ENDED = {"done", "failed", "diverged"}
CLEAR_LINE = "\r\033[K"
WIDTH = 120


@dataclass
class Watched:
    """A submission, and what has been seen of its cells.

    Attributes:
        doubtful: cells that nobody works on and that have not ended, with the moment since when (monotonic seconds).
        told: those of them that a person has been told of.
    """

    submission: Submission
    view: StudyView
    line: str = ""
    doubtful: dict[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def look(self, queue: Queue, now: float, *, patience: bool) -> bool:
        """Show how the cells stand; whether nothing more will come of them."""
        cells = [cell for cell in self.view.cells([self.submission], queue) if cell.run_id in self.submission.task_of]
        doubtful = [cell for cell in cells if self._is_doubtful(cell, queue, patience=patience)]
        self.doubtful = {cell.run_id: self.doubtful.get(cell.run_id, now) for cell in doubtful}
        certain = [cell for cell in doubtful if now - self.doubtful[cell.run_id] >= CONFIRM_S]
        self._show(cells)
        self._tell(certain)
        return len(certain) + sum(cell.state in ENDED for cell in cells) == len(cells)

    def _is_doubtful(self, cell: CellState, queue: Queue, *, patience: bool) -> bool:
        if cell.is_settled:
            return cell.state not in ENDED
        if cell.state == "unknown":
            return not patience
        entry = (queue or {}).get(self.submission.task_id(self.submission.task_of[cell.run_id]) or "")
        return entry is not None and entry.is_stuck

    def _show(self, cells: Sequence[CellState]) -> None:
        """One line: on a terminal in place of the last one, elsewhere only when the numbers have changed."""
        line = f"SLURM job {self.submission.job}, {headline(self.submission.study.name, cells)}"
        if sys.stderr.isatty():
            sys.stderr.write(CLEAR_LINE + one_line(line + _a_step(cells), WIDTH))
            sys.stderr.flush()
        elif line != self.line:
            logger.info("%s", line)
        self.line = line

    def _tell(self, certain: Sequence[CellState]) -> None:
        """Name cells that will not come to an end by themselves, each once."""
        causes: dict[str, list[str]] = {}
        for cell in certain:
            if cell.run_id not in self.told:
                self.told.add(cell.run_id)
                causes.setdefault(": ".join(filter(None, [cell.state, cell.detail])), []).append(cell.run_id)
        for cause, runs in causes.items():
            clear_line()
            more = "" if len(runs) == 1 else f" and {len(runs) - 1} more"
            logger.warning("%s%s %s", runs[0], more, cause)


def wait_for(submissions: Sequence[Submission]) -> None:
    """Return when every cell has its record, or will not get one.

    A cell whose task SLURM no longer has, or whose process was killed, is told as lost within a minute.

    Raises:
        KeyboardInterrupt: the person leaves; the tasks go on.
    """
    watched = [Watched(submission, StudyView(submission.study)) for submission in submissions]
    queue: Queue = None
    asked, answered, pace = float("-inf"), time.monotonic(), POLL_S
    try:
        while watched:
            now = time.monotonic()
            if now - asked >= pace:
                queue, asked = read_queue(one.submission.job for one in watched), now
                answered, pace = (answered if queue is None else now), min(QUEUE_S, pace * 1.5)
            patience = now - answered < SILENCE_S
            watched = [one for one in watched if not one.look(queue, now, patience=patience)]
            if watched:
                time.sleep(POLL_S)
    finally:
        clear_line()


def clear_line() -> None:
    """Make room for other lines on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(CLEAR_LINE)
        sys.stderr.flush()


def _a_step(cells: Sequence[CellState]) -> str:
    """Where the first cell that trains is."""
    steps = [cell.detail.partition(",")[0] for cell in cells if cell.state == "running" and "step" in cell.detail]
    return f" ({steps[0]})" if steps else ""
