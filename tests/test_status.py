"""python -m src.status: every state, from the files that make it; with squeue in tests/cluster/."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.cluster.state import StudyView
from src.cluster.submission import write_submission
from src.records import LAUNCHER, Claims, StudyPaths, write_plan
from src.status import main

ROOT = Path(__file__).resolve().parents[1]
HOLD = "import sys, time; from src.records import Claims, StudyPaths; from pathlib import Path\n"
HOLD += "Claims(StudyPaths(Path(sys.argv[1]))).take(sys.argv[2]); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def study(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path / "s")


@pytest.fixture
def held(study: StudyPaths) -> Iterator[str]:
    """A cell that another process has."""
    command = [sys.executable, "-c", HOLD, str(study.root), "mine"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield "mine"
        process.kill()


def record(study: StudyPaths, run_id: str, status: str, error: str | None = None) -> None:
    path = study.run(run_id).record
    path.parent.mkdir(parents=True)
    cause = None if error is None else {"type": "ValueError", "message": error, "traceback": ""}
    path.write_text(json.dumps({"run_id": run_id, "status": status, "error": cause}))


def shown(study: StudyPaths, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main([study.name, "--output-dir", str(study.root.parent)])
    return code, capsys.readouterr().out.splitlines()


def test_records_say_how_cells_ended(study: StudyPaths, capsys: pytest.CaptureFixture[str]) -> None:
    for status in ("completed", "eliminated", "failed", "diverged", "interrupted"):
        record(study, status[0] * 3, status, "bad\nnews" if status == "failed" else None)
    write_plan(["ccc", "eee", "fff", "new"], study)
    code, lines = shown(study, capsys)
    assert code == 1
    assert lines[0] == "[######..............] s: 2 of 6 cells done, 1 failed, 1 diverged, 1 interrupted, 1 not started"
    assert lines[1].split() == ["failed", "fff", "ValueError:", "bad", "news"]
    assert lines[-1].startswith("The same command continues the study")


def test_a_whole_study_is_one_line(study: StudyPaths, capsys: pytest.CaptureFixture[str]) -> None:
    record(study, "a", "completed")
    write_plan(["a"], study)
    assert shown(study, capsys) == (0, ["[####################] s: 1 of 1 cell done"])


def test_a_claim_is_running_and_the_rest_waits(
    study: StudyPaths, held: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan([held, "next"], study)
    study.run(held).root.mkdir(parents=True)
    study.run(held).progress.write_text('{"step": 3, "steps": 12}')
    code, lines = shown(study, capsys)
    assert code == 0
    assert lines[0].endswith("s: 0 of 2 cells done, 1 running, 1 queued")
    assert "step 3 of 12, process" in lines[1]


def test_a_cell_that_runs_again_is_not_shown_by_its_last_record(study: StudyPaths, held: str) -> None:
    record(study, "other", "failed")
    record(study, held, "failed")
    path = study.run(held).record
    os.utime(path, (0, 0))
    states = {cell.run_id: cell.state for cell in StudyView(study).cells([], None)}
    assert states == {held: "running", "other": "failed"}


def test_a_claim_left_by_a_killed_process_is_lost(
    study: StudyPaths, held: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study.run(held).root.mkdir(parents=True)
    for path in study.claims.iterdir():
        pid = json.loads(path.read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    while Claims(study).holder(held) is not None:
        pass
    code, lines = shown(study, capsys)
    assert code == 1
    assert lines[0].endswith("0 of 1 cell done, 1 lost")


def test_a_submitted_cell_without_squeue_is_unknown(study: StudyPaths) -> None:
    submission = write_submission(study.slurm / "x", "5", [["a"], ["b"]])
    submission.files(0).alive.write_text('{"host": "h", "pid": 1, "restart": 0}')
    cells = {cell.run_id: cell for cell in StudyView(study).cells([submission], None)}
    assert cells["a"].state == "queued"
    assert cells["b"].state == "unknown"
    assert "squeue does not answer" in cells["b"].detail


def test_a_task_that_squeue_does_not_know_is_lost_with_its_cause(study: StudyPaths) -> None:
    submission = write_submission(study.slurm / "x", "5", [["a"], ["b"], ["c"]])
    submission.files(0).error.write_text("no such model\n")
    submission.files(1).alive.write_text('{"host": "node7", "pid": 1, "restart": 0}')
    details = [(cell.state, cell.detail) for cell in StudyView(study).cells([submission], {})]
    assert details == [
        ("lost", "SLURM 5_0: no such model"),
        ("lost", "SLURM 5_1: its process on node7 was killed"),
        ("lost", "SLURM 5_2 is gone, without a record"),
    ]


def test_there_is_no_such_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nope", "--output-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("No study 'nope' in ")


def test_it_starts_without_torch(study: StudyPaths) -> None:
    record(study, "a", "completed")
    command = [sys.executable, "-X", "importtime", "-m", "src.status", "s", "--output-dir", str(study.root.parent)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "json" in imported
    heavy = {"torch", "transformers", "numpy", "pandas", "hydra", "omegaconf", "submitit", "wandb"}
    assert imported.isdisjoint(heavy)


def test_jobs_of_a_launcher_are_queued_while_it_lives_and_lost_when_they_are_killed(
    study: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(["killed", "mine", "waits"], study)
    study.run("killed").root.mkdir(parents=True)
    launcher, job = Claims(study), Claims(study)
    # As processes leave them that are killed: one before the launcher began ...
    (study.claims).mkdir()
    left = '{"host": "here", "pid": 1, "since": %s, "to_train": true}'
    (study.claims / "killed").write_text(left % 1.0)
    launcher.take(f"{LAUNCHER}here-1", to_train=False)
    assert [cell.state for cell in StudyView(study).cells([], {})] == ["queued"] * 3
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    job.take("mine")
    # ... and one that it has started.
    (study.claims / "killed").write_text(left % (time.time() + 1))
    assert [cell.state for cell in StudyView(study).cells([], {})] == ["lost", "running", "queued"]
    launcher.close()
    assert [cell.state for cell in StudyView(study).cells([], {})] == ["lost", "running", "not started"]
    # A process that trains one cell after the other comes to all of them.
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    job.close()
    job.take("mine")
    assert [cell.state for cell in StudyView(study).cells([], {})] == ["queued", "running", "queued"]


def test_the_step_is_that_from_which_a_cell_goes_on(study: StudyPaths) -> None:
    run = study.run("a")
    (run.checkpoints / "step-00000900").mkdir(parents=True)
    assert [cell.detail for cell in StudyView(study).cells([], {})] == [
        "checkpoint of step 900, its process is gone, without a record"
    ]
    run.progress.write_text('{"step": 757, "steps": 3000}')
    assert StudyView(study).cells([], {})[0].detail.startswith("step 900 of 3000, ")
