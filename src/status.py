"""How the cells of a study stand: done, running, queued, failed or lost; also while it is running, and on a cluster.

    python -m src.status minilm-r52 [<study> ...] [--output-dir outputs]

It reads what lies on disk, and asks squeue where tasks were submitted (hydra/launcher=slurm).
Exit codes: 0; 1 where a study cannot be found, or something failed, was lost or interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from src.cluster.queue import read_queue
from src.cluster.state import SETTLED, CellState, State, StudyView, count, headline
from src.cluster.submission import read_submissions
from src.errors import do_each
from src.records import StudyPaths, no_study

BAR = 20
MOST_LINES = 8
RUNS_AGAIN: set[State] = {"failed", "lost", "interrupted", "not started"}
TROUBLE: set[State] = {"failed", "diverged", "lost", "interrupted"}
# What to do about cells that will not come by themselves.
ADVICE = "The same command continues the study: it skips what is done or has diverged, and runs the rest."
DIVERGED = "What diverged would do so again: try a lower optim.lr, or rerun=true after a change of the code."


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where there is trouble with a study."""
    options = _parser().parse_args(arguments)
    return do_each(options.studies, lambda study: show(_find(options.output_dir, study)))


def show(paths: StudyPaths) -> int:
    """Print a progress line and a short table; the exit code says whether there is trouble."""
    submissions = read_submissions(paths)
    queue = read_queue(submission.job for submission in submissions)
    cells = StudyView(paths).cells(submissions, queue)
    numbers = count(cells)
    print(f"{_bar(numbers['done'], len(cells))} {headline(paths.name, cells)}")
    for state in SETTLED:
        if state != "done":
            _show_state([cell for cell in cells if cell.state == state])
    if all(cell.is_settled for cell in cells):
        if any(numbers[state] for state in RUNS_AGAIN):
            print(ADVICE)
        elif numbers["diverged"]:
            print(DIVERGED)
    return int(any(numbers[state] for state in TROUBLE))


def _show_state(cells: Sequence[CellState]) -> None:
    width = max((len(cell.run_id) for cell in cells[:MOST_LINES]), default=0)
    for cell in cells[:MOST_LINES]:
        print(f"  {cell.state:<11}  {cell.run_id:<{width}}  {cell.detail}".rstrip())
    if len(cells) > MOST_LINES:
        print(f"  {cells[0].state:<11}  ... and {len(cells) - MOST_LINES:,d} more")


def _bar(done: int, total: int) -> str:
    filled = BAR * done // total if total else 0
    return f"[{'#' * filled}{'.' * (BAR - filled)}]"


def _find(output_dir: Path, name: str) -> StudyPaths:
    """Also a study of which only the plan, or the submission, is there.

    Raises:
        HarnessError: there is none of this name; the message lists those there are.
    """
    paths = StudyPaths.of(output_dir, name)
    if any(path.exists() for path in (paths.plan, paths.slurm, paths.runs)):
        return paths
    raise no_study(output_dir, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m src.status", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("studies", nargs="+", metavar="study", help="folder name under the output folder")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="default: outputs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
