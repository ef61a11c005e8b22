"""A process that is killed: what wandb has not written yet is lost to it, and comes back when the run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.records import append_row, keep_rows, read_rows
from src.spec import TrackingSpec
from src.tracking import RunInfo, make_tracker
from tests.tracking.stand_in import StandIn
from tests.tracking.studies import sync
from tests.tracking.wandb_file import read_runs

ROOT = Path(__file__).parents[2]
ROWS, CHECKPOINT, KILLED_AFTER = 60, 40, 50
TO_BE_KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from src.records import append_row
from src.spec import TrackingSpec
from src.tracking import RunInfo, make_tracker

folder = Path(sys.argv[2])
tracker = make_tracker(TrackingSpec(mode=sys.argv[3], entity="tester"))
run = tracker.start(RunInfo("killed", "study", {"seed": 1}, (), "train", folder))
while not list(folder.glob("wandb/*run-*")):
    time.sleep(0.01)
for step in range(1, int(sys.argv[4]) + 1):
    metrics = {"loss": 1.0 / step, "grad_norm": None}
    append_row(folder / "metrics.jsonl", metrics, step)
    run.log(metrics, step)
    time.sleep(0.04)
print(run.tracking_id, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_run_that_goes_on_after_a_kill_has_every_row_once(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "1")
    folder = tmp_path / "killed"
    identity = start_and_kill(server, folder, mode)
    lost = [len(part.rows) for part in read_runs(folder)]
    assert sum(lost) < KILLED_AFTER

    log = folder / "metrics.jsonl"
    keep_rows(log, CHECKPOINT)
    earlier = [({"loss": row["loss"], "grad_norm": row["grad_norm"]}, row["step"]) for row in read_rows(log)]
    assert [step for _, step in earlier] == list(range(1, CHECKPOINT + 1))
    tracker = make_tracker(TrackingSpec(mode=mode, entity="tester"))  # type: ignore[arg-type]
    run = tracker.start(RunInfo("killed", "study", {"seed": 1}, (), "train", folder, identity, earlier))
    for step in range(CHECKPOINT + 1, ROWS + 1):
        append_row(log, {"loss": 1.0 / step}, step)
        run.log({"loss": 1.0 / step}, step)
    run.finish("completed", {})
    tracker.close()
    if mode == "offline":
        assert server.runs == {}
        (found,) = read_runs(folder)
        assert len(found.rows) == ROWS
        sync(server, tmp_path)

    (stored,) = server.runs.values()
    assert stored.name == identity
    assert [(row["_step"], row["step"], row["loss"]) for row in stored.history] == [
        (step - 1, step, 1.0 / step) for step in range(1, ROWS + 1)
    ]
    assert [row["step"] for row in read_rows(log)] == list(range(1, ROWS + 1))
    assert (stored.summary["status"], stored.exit_code) == ("completed", 0)


def start_and_kill(server: StandIn, folder: Path, mode: str) -> str:
    """Log rows in a process of its own and kill it with all that belongs to it; gives W&B's id of the run."""
    command = [sys.executable, "-c", TO_BE_KILLED, str(ROOT), str(folder), mode, str(KILLED_AFTER)]
    if mode == "online":
        server.break_at("rows", "hang")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        identity = process.stdout.readline().strip()
        if mode == "online":
            server.broken.wait(30)
        os.killpg(process.pid, signal.SIGKILL)
    if mode == "online":
        assert 0 < len(server.runs[identity].lines) < KILLED_AFTER
        server.behaviour.clear()
    return identity
