from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from src.spec import TrackingSpec
from src.tracking import NullTracker, RunInfo, make_tracker

ROOT = Path(__file__).parents[2]
NO_WANDB = """
import sys
from src.spec import TrackingSpec
from src.tracking import make_tracker
make_tracker(TrackingSpec(backend="none")).close()
sys.exit("wandb" in sys.modules)
"""


def test_nothing_is_tracked_and_nothing_written(tmp_path: Path) -> None:
    tracker = make_tracker(TrackingSpec(backend="none"))
    run = tracker.start(RunInfo("id", "study", {}, (), "train", tmp_path / "run"))
    run.log({"loss": 1.0}, step=1)
    run.finish("completed", {"accuracy": 0.5})
    tracker.close()
    assert isinstance(tracker, NullTracker)
    assert run.tracking_id is None
    assert not (tmp_path / "run").exists()


def test_wandb_is_not_loaded_without_need() -> None:
    assert subprocess.run([sys.executable, "-c", NO_WANDB], cwd=ROOT, check=False).returncode == 0
