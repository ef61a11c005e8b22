"""What all packs of a study share."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass
from typing import Any

from src.comparison.method import method_of
from src.experiment.display.console import Progress
from src.experiment.environment import describe_environment
from src.experiment.packing.pack_size import PackSizes
from src.experiment.processes.sharing import Shared
from src.experiment.resolve import Cell
from src.experiment.resources import Resources
from src.records import RunPaths, RunRecord, StudyPaths, read_rows, write_json_atomic
from src.spec import Settings, to_dict
from src.tracking import LoggedRow, RunInfo, RunTracker, Tracker


@dataclass(frozen=True)
class Session:
    """A study at work.

    Attributes:
        stop: set when the person or the cluster asks to stop.
        packs: how many cells train together.
        shared: which cells other processes train.
    """

    settings: Settings
    paths: StudyPaths
    resources: Resources
    progress: Progress
    tracker: Tracker
    stop: threading.Event
    packs: PackSizes
    shared: Shared

    def run_paths(self, cell: Cell) -> RunPaths:
        """The cell's folder."""
        return self.paths.run(cell.run_id)

    def environment(self, cell: Cell) -> dict[str, Any]:
        """What the cell runs on."""
        return describe_environment(self.resources.device, self.resources.dtype(cell.spec.trainer.dtype))

    def start_tracker(self, cell: Cell, step: int) -> RunTracker:
        """Begin the cell's mirror, or continue the one that an earlier attempt began.

        Args:
            step: from which the cell goes on; its own log ends there.
        """
        paths, spec = self.run_paths(cell), cell.spec
        previous = read_tracking_id(paths)
        allocation = cell.setup.allocation
        size = f"r{allocation.rank}" if allocation.rank else f"m{allocation.size}" if allocation.size else "none"
        info = RunInfo(
            run_id=cell.run_id,
            study=self.settings.study,
            config=self._config(cell),
            tags=(f"targets:{spec.lora.targets}", size, f"method:{spec.method.name}"),
            job_type="train",
            folder=paths.root,
            previous_id=previous,
            earlier=logged_rows(paths, step),
        )
        tracker = self.tracker.start(info)
        if tracker.tracking_id not in {previous, None}:
            write_json_atomic(paths.tracking, self.tracking_of(tracker))
        return tracker

    def _config(self, cell: Cell) -> dict[str, Any]:
        """Everything that a person set, and what followed from it."""
        allocation = cell.setup.allocation
        derived = {
            "run_id": cell.run_id,
            "method_name": method_of(cell.spec),
            "rank": allocation.rank,
            "size": allocation.size,
            "adapter_parameters": allocation.parameters,
        }
        settings = to_dict(self.settings)
        # Of the cluster, not of the run; its shell commands may hold what is nobody else's business.
        del settings["slurm"]
        return {**settings, **to_dict(cell.spec), **derived}

    def tracking_of(self, tracker: RunTracker) -> dict[str, str | None]:
        """The ``tracking`` of a record."""
        return self._tracking(tracker.tracking_id)

    def known_tracking(self, cell: Cell) -> dict[str, str | None]:
        """The ``tracking`` of a cell whose tracker is out of reach: what its folder says."""
        return self._tracking(read_tracking_id(self.run_paths(cell)))

    def _tracking(self, tracking_id: str | None) -> dict[str, str | None]:
        return {"backend": None if tracking_id is None else self.settings.tracking.backend, "id": tracking_id}

    def report_cell(self, record: RunRecord) -> None:
        """Tell the progress display that a record was written."""
        self.progress.cell_done(record.run_id, record.status, score_of(record))


def score_of(record: RunRecord) -> float | None:
    """The validation score by which cells are compared; of one that halving ended, the one by which it was."""
    if record.eliminated is not None:
        return record.eliminated.score
    scores = record.metrics.validation
    return None if scores is None else scores.get(record.spec["task"]["metric"])


def read_tracking_id(paths: RunPaths) -> str | None:
    """The id that an earlier attempt at a run had, None without one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        value = json.loads(paths.tracking.read_text()).get("id")
        return value if isinstance(value, str) else None
    return None


def logged_rows(paths: RunPaths, step: int) -> list[LoggedRow] | None:
    """What a run logged up to the step from which it goes on; None where its log is missing."""
    if step and not paths.metrics.exists():
        return None
    return [({name: row[name] for name in row if name != "step"}, row["step"]) for row in read_rows(paths.metrics)]
