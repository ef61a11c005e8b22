"""Real wandb, offline: what it writes is read back from the .wandb files."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from src.spec import TrackingSpec
from src.tracking import RunInfo, Tracker, make_tracker
from src.tracking.wandb_run import WandbRun
from tests.tracking.wandb_file import read_runs

Said = Callable[[], list[str]]
ROOT = Path(__file__).parents[2]
CONFIG = {"lora": {"rank": 8, "budget": None}, "optim": {"lr": 3e-3}, "seed": 1}
ONE_RUN = """
import logging, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from src.spec import TrackingSpec
from src.tracking import RunInfo, make_tracker

logging.basicConfig(level=logging.WARNING)
tracker = make_tracker(TrackingSpec())
run = tracker.start(RunInfo("id", "study", {}, (), "train", Path(sys.argv[2])))
run.log({"loss": 1.0}, step=1)
run.finish("completed", {})
tracker.close()
"""


def info(tmp_path: Path, name: str = "qv-r8", previous_id: str | None = None) -> RunInfo:
    return RunInfo(name, "minilm-r52", CONFIG, ("qv", "r8"), "train", tmp_path / name, previous_id)


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    tracker = make_tracker(TrackingSpec(mode="offline"))
    yield tracker
    tracker.close()


def test_a_run_is_recorded_whole(tracker: Tracker, tmp_path: Path) -> None:
    run = tracker.start(info(tmp_path))
    run.log({"train/loss": 2.5, "validation/accuracy": None}, step=10)
    run.log({"nothing": None}, step=15)
    run.log({"train/loss": 1.5, "validation/accuracy": 0.75, "epoch": 1}, step=20)
    run.finish("completed", {"validation": {"accuracy": 0.75}, "best_epoch": 1, "test": None})
    tracker.close()

    (found,) = read_runs(tmp_path / "qv-r8")
    own = [{key: value for key, value in row.items() if not key.startswith("_")} for row in found.rows]
    assert own == [
        {"train/loss": 2.5, "step": 10},
        {"train/loss": 1.5, "validation/accuracy": 0.75, "epoch": 1, "step": 20},
    ]
    assert {key: value for key, value in found.config.items() if key != "_wandb"} == CONFIG
    assert (found.run.display_name, found.run.run_group, found.run.job_type) == ("qv-r8", "minilm-r52", "train")
    assert list(found.run.tags) == ["qv", "r8"]
    assert found.run.run_id == run.tracking_id
    assert found.summary["validation"] == {"accuracy": 0.75}
    assert found.summary["best_epoch"] == 1
    assert found.summary["status"] == "completed"
    assert "test" not in found.summary
    assert found.exit_code == 0


def test_runs_side_by_side_do_not_mix(tracker: Tracker, tmp_path: Path) -> None:
    runs = [tracker.start(info(tmp_path, f"lane{lane}")) for lane in range(4)]
    for step in range(50):
        for lane, run in enumerate(runs):
            run.log({"loss": 1000 * lane + step}, step)
    for lane, run in enumerate(runs):
        run.finish("completed", {"best": lane})
    tracker.close()

    assert len({run.tracking_id for run in runs}) == 4
    for lane in range(4):
        (found,) = read_runs(tmp_path / f"lane{lane}")
        assert [(row["loss"], row["step"]) for row in found.rows] == [(1000 * lane + step, step) for step in range(50)]
        assert found.summary["best"] == lane


def test_a_continued_run_keeps_its_id(tmp_path: Path) -> None:
    tracker = make_tracker(TrackingSpec(mode="offline"))
    first = tracker.start(info(tmp_path))
    first.log({"loss": 2.0}, step=1)
    tracker.close()
    tracker = make_tracker(TrackingSpec(mode="offline"))
    second = tracker.start(info(tmp_path, previous_id=first.tracking_id))
    second.log({"loss": 1.0}, step=2)
    second.finish("completed", {})
    tracker.close()

    found = read_runs(tmp_path / "qv-r8")
    assert second.tracking_id == first.tracking_id
    assert {part.run.run_id for part in found} == {first.tracking_id}
    assert sorted(row["step"] for part in found for row in part.rows) == [1, 2]


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("diverged", 1), ("interrupted", 1)])
def test_exit_code_follows_the_status(tracker: Tracker, tmp_path: Path, status: str, code: int) -> None:
    tracker.start(info(tmp_path)).finish(status, {})
    tracker.close()
    (found,) = read_runs(tmp_path / "qv-r8")
    assert (found.exit_code, found.summary["status"]) == (code, status)


def test_closing_finishes_what_is_open(tracker: Tracker, tmp_path: Path) -> None:
    tracker.start(info(tmp_path)).log({"loss": 1.0}, step=1)
    tracker.close()
    (found,) = read_runs(tmp_path / "qv-r8")
    assert (found.exit_code, found.summary["status"], len(found.rows)) == (1, "interrupted", 1)


def test_only_the_first_end_counts(tracker: Tracker, tmp_path: Path) -> None:
    run = tracker.start(info(tmp_path))
    run.finish("completed", {"accuracy": 0.5})
    run.finish("failed", {"accuracy": 0.1})
    run.log({"loss": 1.0}, step=1)
    tracker.close()
    (found,) = read_runs(tmp_path / "qv-r8")
    assert (found.exit_code, found.summary["accuracy"], found.rows) == (0, 0.5, [])


def test_long_tags_are_cut_to_what_wandb_takes(tracker: Tracker, tmp_path: Path, said: Said) -> None:
    tracker.start(RunInfo("id", "study", {}, ("t" * 100, "", "qv"), "train", tmp_path / "run")).finish("completed", {})
    tracker.close()
    (found,) = read_runs(tmp_path / "run")
    assert list(found.run.tags) == ["t" * 64, "qv"]
    assert said() == []


def test_a_row_that_wandb_refuses_is_said_once_and_the_rest_is_kept(
    tracker: Tracker, tmp_path: Path, said: Said
) -> None:
    run = tracker.start(info(tmp_path))
    for step in range(4):
        run.log({1: 1.0} if step % 2 else {"loss": 1.0}, step)
    run.finish("completed", {})
    tracker.close()
    (found,) = read_runs(tmp_path / "qv-r8")
    assert [row["step"] for row in found.rows] == [0, 2]
    assert ["W&B failed" in text for text in said()] == [True]


def test_a_folder_that_cannot_be_written_is_said_once(tracker: Tracker, tmp_path: Path, said: Said) -> None:
    (tmp_path / "qv-r8").write_text("a file where the folder should be")
    for _ in range(2):
        run = tracker.start(info(tmp_path))
        run.log({"loss": 1.0}, step=1)
        run.finish("completed", {})
    tracker.close()
    assert ["even offline" in text for text in said()] == [True]


def test_a_start_that_hangs_holds_nobody_up_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("src.tracking.wandb_tracker.GRACE_S", 0.1)
    monkeypatch.setattr("src.tracking.wandb_tracker.WandbTracker._init", lambda *_: release.wait(30))
    tracker = make_tracker(TrackingSpec(mode="offline", init_timeout_s=0.2, finish_timeout_s=0.2))
    run = tracker.start(info(tmp_path))
    begin = time.monotonic()
    tracker.close()
    assert time.monotonic() - begin < 2
    assert isinstance(run, WandbRun)
    assert run.thread.daemon
    release.set()
    run.thread.join()


def test_nothing_is_printed_and_nothing_written_elsewhere(tmp_path: Path, working_folder: Path) -> None:
    command = [sys.executable, "-c", ONE_RUN, str(ROOT), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(working_folder.iterdir()) == []
    assert len(read_runs(tmp_path / "run")) == 1
