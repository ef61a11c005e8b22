"""When the launcher stops to wait: never for what will not come."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from src.cluster.queue import Entry
from src.cluster.state import StudyView
from src.cluster.submission import Submission, write_submission
from src.cluster.watch import CONFIRM_S, Watched, wait_for
from src.records import StudyPaths

HELD = Entry("PENDING", "launch failed requeued held")
WAITS = Entry("PENDING", "Resources")
RUNS = Entry("RUNNING", "None")


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    return write_submission(StudyPaths(tmp_path / "s").slurm / "x", "5", [["a"], ["b"]])


def end(submission: Submission, run_id: str, status: str = "completed") -> None:
    path = submission.study.run(run_id).record
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"status": status, "error": None}))


def watch(submission: Submission) -> Watched:
    return Watched(submission, StudyView(submission.study))


def test_records_end_the_wait_whatever_slurm_says(submission: Submission) -> None:
    end(submission, "a")
    end(submission, "b", "diverged")
    assert watch(submission).look({"5_0": RUNS, "5_1": RUNS}, 0.0, patience=True)
    assert watch(submission).look(None, 0.0, patience=True)
    wait_for([submission])


def test_a_queue_is_waited_for_however_long(submission: Submission) -> None:
    watched = watch(submission)
    for now in (0.0, 1e6):
        assert not watched.look({"5_0": WAITS, "5_1": RUNS}, now, patience=True)
    assert watched.told == set()


def test_what_is_gone_is_lost_when_it_stays_gone(submission: Submission, caplog: pytest.LogCaptureFixture) -> None:
    end(submission, "a")
    watched = watch(submission)
    with caplog.at_level(logging.WARNING, "src"):
        assert not watched.look({}, 0.0, patience=True)
        assert not watched.look({"5_1": RUNS}, CONFIRM_S, patience=True)
        assert not watched.look({}, CONFIRM_S + 1, patience=True)
        assert caplog.text == ""
        assert watched.look({}, 2 * CONFIRM_S + 1, patience=True)
    assert "b lost: SLURM 5_1 is gone, without a record" in caplog.text


def test_the_lost_are_told_while_others_are_waited_for(
    submission: Submission, caplog: pytest.LogCaptureFixture
) -> None:
    watched = watch(submission)
    with caplog.at_level(logging.WARNING, "src"):
        for now in (0.0, CONFIRM_S, 2 * CONFIRM_S):
            assert not watched.look({"5_0": WAITS}, now, patience=True)
    assert caplog.text.count("b lost") == 1


def test_a_held_task_and_a_silent_controller_are_not_waited_for(
    submission: Submission, caplog: pytest.LogCaptureFixture
) -> None:
    end(submission, "a")
    for queue, patience, told in (({"5_1": HELD}, True, "held"), (None, False, "squeue does not answer")):
        watched = watch(submission)
        with caplog.at_level(logging.WARNING, "src"):
            assert not watched.look(queue, 0.0, patience=patience)
            assert watched.look(queue, CONFIRM_S, patience=patience)
        assert told in caplog.text


def test_a_silent_controller_does_not_end_what_shows_signs_of_life(submission: Submission) -> None:
    end(submission, "a")
    submission.files(1).alive.write_text('{"host": "h", "pid": 1, "restart": 0}')
    watched = watch(submission)
    for now in (0.0, CONFIRM_S, 1e6):
        assert not watched.look(None, now, patience=False)
