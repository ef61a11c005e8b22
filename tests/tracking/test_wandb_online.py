"""Real wandb against the stand-in server: what arrives, and what training notices when nothing does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.spec import TrackingSpec
from src.tracking import RunInfo, RunTracker, Tracker, make_tracker
from tests.tracking.stand_in import KEY, StandIn
from tests.tracking.wandb_file import read_runs

Said = Callable[[], list[str]]
TIMEOUT_S = 1.5
ROWS = 20


def new_tracker() -> Tracker:
    return make_tracker(TrackingSpec(entity="tester", init_timeout_s=TIMEOUT_S, finish_timeout_s=TIMEOUT_S))


def start(tracker: Tracker, tmp_path: Path, name: str = "qv-r8", previous_id: str | None = None) -> RunTracker:
    config = {"lora": {"rank": 8}, "seed": 1}
    return tracker.start(RunInfo(name, "minilm-r52", config, ("qv", "r8"), "train", tmp_path / name, previous_id))


def train(run: RunTracker, first: int = 0, last: int = ROWS) -> float:
    """Log rows and finish; gives the seconds for which the caller was held up."""
    begin = time.monotonic()
    for step in range(first, last):
        run.log({"loss": 1.0 / (1 + step)}, step)
    run.finish("completed", {"best": last})
    return time.monotonic() - begin


def close(tracker: Tracker) -> float:
    begin = time.monotonic()
    tracker.close()
    return time.monotonic() - begin


def test_everything_arrives_but_the_key(server: StandIn, tmp_path: Path, said: Said) -> None:
    tracker = new_tracker()
    runs = [start(tracker, tmp_path, f"lane{lane}") for lane in range(3)]
    for run in runs:
        train(run)
    tracker.close()

    assert set(server.runs) == {run.tracking_id for run in runs}
    for lane, run in enumerate(runs):
        stored = server.runs[str(run.tracking_id)]
        assert stored.plain_config() == {"lora": {"rank": 8}, "seed": 1}
        sent = stored.variables
        assert (sent["displayName"], sent["groupName"], sent["jobType"]) == (f"lane{lane}", "minilm-r52", "train")
        assert (sent["project"], sent["entity"], sent["tags"]) == ("lora-sweep", "tester", ["qv", "r8"])
        assert [(row["step"], row["loss"]) for row in stored.history] == [(s, 1.0 / (1 + s)) for s in range(ROWS)]
        assert (stored.summary["best"], stored.summary["status"], stored.exit_code) == (ROWS, "completed", 0)
    assert not any(KEY in body for _, body in server.bodies)
    assert said() == []


def test_a_continued_run_loses_no_rows(server: StandIn, tmp_path: Path, said: Said) -> None:
    tracker = new_tracker()
    first = start(tracker, tmp_path)
    for step in range(10):
        first.log({"loss": 1.0}, step)
    tracker.close()
    tracker = new_tracker()
    second = start(tracker, tmp_path, previous_id=first.tracking_id)
    train(second, first=6)
    tracker.close()

    (stored,) = server.runs.values()
    assert [row["step"] for row in stored.history] == [*range(10), *range(6, ROWS)]
    assert [row["_step"] for row in stored.history] == list(range(10 + ROWS - 6))
    assert (stored.summary["status"], stored.exit_code) == ("completed", 0)
    assert said() == []


@pytest.mark.parametrize("trouble", ["gone", "hang", 503, 403])
def test_a_server_that_starts_no_run_costs_one_wait_and_one_warning(
    server: StandIn, tmp_path: Path, said: Said, trouble: str | int
) -> None:
    if trouble == "gone":
        server.stop()
    else:
        server.behaviour["graphql"] = trouble
    tracker = new_tracker()
    runs = [start(tracker, tmp_path, f"lane{lane}") for lane in range(4)]
    assert sum(train(run) for run in runs) < 0.5
    assert close(tracker) < 2 * TIMEOUT_S + 2
    asked = len(server.bodies)

    again = new_tracker()
    assert train(start(again, tmp_path, "later")) < 0.5
    assert close(again) < TIMEOUT_S
    assert len(server.bodies) == asked
    for name in ("lane0", "lane1", "lane2", "lane3", "later"):
        (found,) = read_runs(tmp_path / name, "offline-run")
        assert len(found.rows) == ROWS
    assert ["cannot be reached or refuses" in text for text in said()] == [True]


@pytest.mark.parametrize(
    ("request_kind", "trouble"), [("file_stream", 403), ("file_stream", "hang"), ("put", "hang"), ("file_stream", 503)]
)
def test_refused_and_lost_uploads_are_said_once_and_bounded(
    server: StandIn, tmp_path: Path, said: Said, request_kind: str, trouble: str | int
) -> None:
    tracker = new_tracker()
    runs = [start(tracker, tmp_path, f"lane{lane}") for lane in range(3)]
    server.behaviour[request_kind] = trouble
    assert sum(train(run) for run in runs) < 0.5
    assert close(tracker) < 2 * TIMEOUT_S + 2
    assert ["did not take all data" in text for text in said()] == [True]
    for lane in range(3):
        (found,) = read_runs(tmp_path / f"lane{lane}", "run")
        assert len(found.rows) == ROWS


def test_a_slow_server_holds_up_nobody_but_the_end(server: StandIn, tmp_path: Path) -> None:
    server.delay = 0.2
    tracker = make_tracker(TrackingSpec(entity="tester"))
    begin = time.monotonic()
    runs = [start(tracker, tmp_path, f"lane{lane}") for lane in range(4)]
    assert sum(train(run) for run in runs) < 0.5
    assert time.monotonic() - begin < 1.0
    tracker.close()
    assert [len(server.runs[str(run.tracking_id)].history) for run in runs] == [ROWS] * 4


def test_runs_that_are_online_stay_so_when_a_later_one_cannot_start(server: StandIn, tmp_path: Path) -> None:
    tracker = new_tracker()
    early = start(tracker, tmp_path, "early")
    while not server.runs:
        time.sleep(0.01)
    server.behaviour["graphql"] = 403
    late = start(tracker, tmp_path, "late", previous_id="kept")
    train(late)
    while late.thread.is_alive():
        time.sleep(0.01)
    server.behaviour.clear()
    train(early)
    tracker.close()

    stored = server.runs[str(early.tracking_id)]
    assert (len(stored.history), stored.exit_code) == (ROWS, 0)
    (found,) = read_runs(tmp_path / "late", "offline-run")
    assert (found.run.run_id, len(found.rows)) == ("kept", ROWS)
