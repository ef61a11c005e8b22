"""What earlier runs of a study have left: removed where it is in the way, and never while somebody has the cell."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from src.errors import HarnessError
from src.experiment.resolve import Cell
from src.records import Claims, StudyPaths, remove_folder, remove_leftovers


def forget(cells: Sequence[Cell], paths: StudyPaths, claims: Claims) -> None:
    """Remove what earlier runs of these cells left, the record first, so that nothing half-removed looks complete.

    What another process is training stays.

    Raises:
        HarnessError: the system refused to remove a file.
    """
    for cell in cells:
        run = paths.run(cell.run_id)
        if not claims.take(cell.run_id, to_train=False):
            continue
        try:
            run.record.unlink(missing_ok=True)
            remove_folder(run.root)
            if run.root.exists():
                shutil.rmtree(run.root)  # says why it cannot be removed
        except OSError as error:
            raise HarnessError(f"Cannot remove {run.root} to run it again: {error.strerror or error}.") from error
        finally:
            claims.release(cell.run_id)


def tidy(cells: Sequence[Cell], paths: StudyPaths, claims: Claims) -> None:
    """Remove what a kill left of runs that had just ended, or were being forgotten; nothing else would.

    Args:
        cells: that are not to run.
    """
    remove_leftovers(paths.runs)
    for run in (paths.run(cell.run_id) for cell in cells):
        if (run.checkpoints.exists() or any(run.root.glob(".*.tmp"))) and claims.take(run.root.name, to_train=False):
            remove_folder(run.checkpoints)
            remove_leftovers(run.root)
            claims.release(run.root.name)
