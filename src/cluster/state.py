"""How the cells of a study stand, from its files and from squeue: the one answer for src.status and for the launcher.

What a task returned, and what SLURM calls it after its end, is never asked: a record is what counts.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from src.cluster.alive import read_life
from src.cluster.queue import Entry, read_facts
from src.cluster.submission import Submission
from src.errors import counted
from src.records import LAUNCHER, Claims, Holder, RunPaths, StudyPaths, read_plan
from src.records.text import one_line

State = Literal["running", "queued", "done", "failed", "diverged", "lost", "interrupted", "not started", "unknown"]
# In the order in which they are shown; a cell is settled where nothing more will come by itself.
SETTLED: dict[State, bool] = {
    "running": False,
    "queued": False,
    "unknown": False,
    "failed": True,
    "diverged": True,
    "lost": True,
    "interrupted": True,
    "not started": True,
    "done": True,
}
OF_RECORD: dict[str, State] = {
    "completed": "done",
    "eliminated": "done",
    "diverged": "diverged",
    "failed": "failed",
    "interrupted": "interrupted",
}
LONGEST_CAUSE = 120
# Longest that sbatch takes to answer.
SUBMITTING_S = 120
Queue = Mapping[str, Entry] | None
OVER = {"gone", "killed"}


@dataclass(frozen=True)
class CellState:
    """One cell.

    Attributes:
        detail: step, place or cause, in a few words; may be empty.
    """

    run_id: str
    state: State
    detail: str = ""

    @property
    def is_settled(self) -> bool:
        return SETTLED[self.state]


@dataclass(frozen=True)
class _Task:
    """A task that has the cell: what squeue says of it, and whether a process can still be at work.

    Attributes:
        state: ``queued``, ``running``, ``unknown`` (squeue does not answer), ``gone``, or ``killed``.
    """

    state: Literal["queued", "running", "unknown", "gone", "killed"]
    name: str
    detail: str


@dataclass(frozen=True)
class _Record:
    status: str
    cause: str
    changed: float


class StudyView:
    """A study, looked at again and again; what has not changed on disk is not read again."""

    def __init__(self, paths: StudyPaths) -> None:
        self.paths = paths
        self._records: dict[str, _Record] = {}

    def cells(self, submissions: Sequence[Submission], queue: Queue) -> list[CellState]:
        """Every cell of the plan, and every other that has a folder.

        Args:
            submissions: of this study, the oldest first; of a cell in several of them the newest counts.
            queue: what squeue says of their jobs; None where it does not answer.
        """
        claims = Claims(self.paths)
        holders, left = claims.others(), claims.left()
        tasks = [[_look(submission, i, queue) for i in range(len(submission.tasks))] for submission in submissions]
        states = []
        for run_id in self._run_ids(submissions):
            own = [(s, tasks[n][s.task_of[run_id]]) for n, s in enumerate(submissions) if run_id in s.task_of]
            submission, task = own[-1] if own else (None, None)
            states.append(self._cell(run_id, submission, task, holders, left))
        return states

    def _run_ids(self, submissions: Sequence[Submission]) -> list[str]:
        submitted = [run_id for submission in submissions for run_id in submission.task_of]
        try:
            folders = sorted(entry.name for entry in self.paths.runs.iterdir() if not entry.name.startswith("."))
        except OSError:
            folders = []
        return list(dict.fromkeys([*read_plan(self.paths), *submitted, *folders]))

    def _cell(
        self,
        run_id: str,
        submission: Submission | None,
        task: _Task | None,
        holders: Mapping[str, Holder],
        left: Mapping[str, float],
    ) -> CellState:
        run, holder = self.paths.run(run_id), holders.get(run_id)
        record = self._record(run_id, run.record)
        begun = max(holder.since if holder else 0.0, submission.since if submission else 0.0)
        if (
            record is not None
            and record.status != "interrupted"
            and (_is_over(task, holder) or record.changed >= begun)
        ):
            return CellState(run_id, OF_RECORD.get(record.status, "failed"), record.cause)
        if holder is not None:
            where = f"SLURM {holder.job} on {holder.host}" if holder.job else f"process {holder.pid} on {holder.host}"
            return CellState(run_id, "running", ", ".join(filter(None, [_step(run), where])))
        if task is not None and task.state not in OVER:
            state: State = "unknown" if task.state == "unknown" else "queued"
            return CellState(run_id, state, task.detail)
        return _left(run_id, run, record, task, _comes(run_id, holders, left))

    def _record(self, run_id: str, path: Path) -> _Record | None:
        try:
            changed = path.stat().st_mtime
        except OSError:
            return None
        known = self._records.get(run_id)
        if known is None or known.changed != changed:
            self._records[run_id] = known = _read_record(path, changed)
        return known


def count(states: Sequence[CellState]) -> Counter[State]:
    """Cells by state."""
    return Counter(cell.state for cell in states)


def headline(name: str, states: Sequence[CellState]) -> str:
    """``minilm-r52: 12 of 20 cells done, 1 failed, 4 running, 3 queued``."""
    numbers = count(states)
    others = [f"{numbers[state]} {state}" for state in SETTLED if numbers[state] and state != "done"]
    return ", ".join([f"{name}: {numbers['done']} of {counted(len(states), 'cell')} done", *others])


def _comes(run_id: str, holders: Mapping[str, Holder], left: Mapping[str, float]) -> bool:
    """Whether some process will come to a cell that nobody has: one that goes on to others, or one that starts jobs.

    Whoever starts jobs starts one for each cell; a job that has begun since then and was killed is lost.
    """
    if any(holder.goes_on for name, holder in holders.items() if not name.startswith(".")):
        return True
    launchers = [holder.since for name, holder in holders.items() if name.startswith(LAUNCHER)]
    return bool(launchers) and left.get(run_id, 0.0) < max(launchers)


def _left(run_id: str, run: RunPaths, record: _Record | None, task: _Task | None, comes: bool) -> CellState:
    """A cell that nobody has, and without a record that says how it ended."""
    if task is not None and (record is None or task.state == "killed"):
        return CellState(run_id, "lost", task.detail or f"SLURM {task.name} is gone, without a record")
    if record is not None:
        return CellState(run_id, "interrupted", (task.detail if task else "") or _step(run))
    if comes:
        return CellState(run_id, "queued")
    if run.root.exists():
        return CellState(run_id, "lost", ", ".join(filter(None, [_step(run), "its process is gone, without a record"])))
    return CellState(run_id, "not started")


def _is_over(task: _Task | None, holder: Holder | None) -> bool:
    """Whether nobody has the cell, so that its record is its last one."""
    return holder is None and (task is None or task.state in OVER)


def _look(submission: Submission, index: int, queue: Queue) -> _Task:
    """What is known of a task, from its files and from squeue."""
    name, files = submission.task_id(index) or "job", submission.files(index)
    entry = None if queue is None else queue.get(name)
    life = read_life(files.alive)
    if submission.job is None and time.time() - submission.since < SUBMITTING_S:
        return _Task("queued", name, "being submitted")
    if queue is None:
        beats = life is not None and not life.is_silent
        return _Task("running" if beats else "unknown", name, "squeue does not answer")
    if entry is None:
        killed = f"SLURM {name}: its process on {life.host} was killed" if life else ""
        return _Task("killed" if life else "gone", name, _cause(files.error, name) or killed)
    if entry.has_started and life is not None and life.is_silent and _restarts(name) == life.restart:
        return _Task("killed", name, f"SLURM {name}: its process on {life.host} was killed")
    if entry.has_started:
        return _Task("running", name, f"SLURM {name} has begun")
    return _Task("queued", name, f"SLURM {name} waits: {entry.reason}" if entry.reason != "None" else f"SLURM {name}")


def _cause(error: Path, name: str) -> str:
    try:
        return f"SLURM {name}: {one_line(error.read_text(), LONGEST_CAUSE)}"
    except OSError:
        return ""


def _restarts(name: str) -> int | None:
    text = read_facts(name).get("Restarts", "")
    return int(text) if text.isdecimal() else None


def _read_record(path: Path, changed: float) -> _Record:
    """Only what is shown; src.report reads records with all checks."""
    try:
        values = json.loads(path.read_bytes())
        error = values["error"]
        cause = "" if error is None else one_line(f"{error['type']}: {error['message']}", LONGEST_CAUSE)
        return _Record(str(values["status"]), cause, changed)
    except (OSError, ValueError, LookupError, TypeError):
        return _Record("failed", "its record cannot be read", changed)


def _step(run: RunPaths) -> str:
    """``step 120 of 400``, as the run's process last said; else its last checkpoint; empty where there is none."""
    steps = [path.name.removeprefix("step-") for path in run.checkpoints.glob("step-*")]
    saved = max((int(step) for step in steps if step.isdecimal()), default=0)
    try:
        values = json.loads(run.progress.read_bytes())
        return f"step {max(int(values['step']), saved)} of {int(values['steps'])}"
    except (OSError, ValueError, LookupError, TypeError):
        return f"checkpoint of step {saved}" if saved else ""
