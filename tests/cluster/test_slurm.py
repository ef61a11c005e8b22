"""Sweeps on a real SLURM: from the command to records, report and exit code."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from src.experiment.study import run_study
from src.records import StudyPaths, read_record
from tests.cluster.commands import Cluster
from tests.cluster.slurm import wait_until
from tests.experiment.workplace import results, snapshot

LONG = ("trainer.max_steps=100000", "trainer.checkpoint_every=1000000", "trainer.eval_every=100000")


def test_a_sweep_runs_as_one_array_and_ends_as_it_would_here(cluster: Cluster, tmp_path: Path) -> None:
    result = cluster.train("lora.rank=1,2,3", "slurm.array_parallelism=2")
    assert result.returncode == 0, result.stderr + cluster.log
    (submission,) = cluster.submissions
    assert [len(task) for task in submission["tasks"]] == [2, 1]
    assert cluster.statuses == ["completed"] * 3
    assert "SLURM job" in result.stderr
    assert "3 of 3 cells done" in result.stderr
    assert (cluster.study.report / "index.html").exists()
    assert "qv" in result.stdout
    specs = [read_record(run.record).run_spec() for run in cluster.runs]
    run_study(specs, cluster.place.settings(tmp_path / "here", pack=2))
    here = StudyPaths.of(tmp_path / "here", "tiny")
    assert results(cluster.runs) == results([here.run(run.root.name) for run in cluster.runs])


@pytest.mark.slow
def test_leaving_then_status_then_report(cluster: Cluster) -> None:
    cluster.slurm.occupy(20)
    result = cluster.train("lora.rank=1,2,3", "slurm.wait=false")
    assert result.returncode == 0, result.stderr
    assert "python -m src.status tiny" in result.stdout
    assert "python -m src.report tiny" in result.stdout
    status = cluster.status()
    assert status.returncode == 0
    assert "0 of 3 cells done, 3 queued" in status.stdout
    # The same command again does not submit what is queued.
    again = cluster.train("lora.rank=1,2,3", "slurm.wait=false")
    assert again.returncode == 0
    assert len(cluster.submissions) == 1
    wait_until(lambda: cluster.statuses == ["completed"] * 3, 90)
    assert "3 of 3 cells done" in cluster.status().stdout
    assert cluster.report().returncode == 0
    before = snapshot(cluster.study.runs)
    assert cluster.train("lora.rank=1,2,3").returncode == 0
    assert len(cluster.submissions) == 1
    assert snapshot(cluster.study.runs) == before


@pytest.mark.slow
def test_a_bad_cell_refuses_all_before_submission(cluster: Cluster) -> None:
    for rank in ("0", "999"):
        result = cluster.train(f"lora.rank=1,{rank}")
        assert result.returncode == 2
        assert f"lora.rank is {rank}" in result.stderr
        assert "Nothing was started" in result.stderr
    assert cluster.submissions == []
    assert cluster.slurm.call("squeue", "--noheader") == ""


@pytest.mark.slow
def test_what_sbatch_refuses_is_said_in_its_words(cluster: Cluster) -> None:
    result = cluster.train("lora.rank=1,2", "slurm.partition=nope")
    assert result.returncode == 1
    assert "Nothing was submitted: sbatch says:" in result.stderr
    assert "invalid partition specified: nope" in result.stderr
    assert "Traceback" not in result.stderr
    assert cluster.submissions == []


@pytest.mark.slow
def test_cells_that_fail_leave_the_others_alone(cluster: Cluster) -> None:
    result = cluster.train("lora.rank=1,2", "optim.lr=1e-2,1e30", "optim.clip=null")
    assert result.returncode == 1
    assert sorted(cluster.statuses) == ["completed", "completed", "diverged", "diverged"]
    assert "2 of 4 cells of the study tiny did not complete" in result.stderr
    status = cluster.status()
    assert status.returncode == 1
    assert "2 of 4 cells done, 2 diverged" in status.stdout


@pytest.mark.slow
def test_a_model_that_is_gone_is_told_as_the_cause(cluster: Cluster, tmp_path: Path) -> None:
    """The task cannot even begin its cells: nothing is recorded, and the launcher knows why."""
    cluster.slurm.occupy(25)
    copy = tmp_path / "data.csv"
    copy.write_bytes(cluster.place.data.read_bytes())
    with cluster.start("lora.rank=1,2", f"task.path={copy}") as command:
        wait_until(lambda: bool(cluster.submissions) and cluster.submissions[0]["job"] is not None, 60)
        copy.unlink()
        _, told = command.communicate(timeout=120)
        assert command.returncode == 1
        assert "lost: SLURM" in told
        assert str(copy) in told


@pytest.mark.slow
def test_a_task_that_is_killed_outright_is_noticed_within_a_minute(cluster: Cluster) -> None:
    """With all of SLURM's own processes on the node, so that SLURM itself goes on calling it running."""
    with cluster.start("lora.rank=1,2", *LONG) as command:
        cluster.wait_for_training()
        (submission,) = cluster.submissions
        cluster.slurm.kill(submission["job"], managers=True)
        killed = time.monotonic()
        _, told = command.communicate(timeout=90)
        assert time.monotonic() - killed < 60
        assert command.returncode == 1
        assert "lost: SLURM" in told
        status = cluster.status()
        assert "2 lost" in status.stdout
        assert "was killed" in status.stdout
        assert status.returncode == 1


@pytest.mark.slow
def test_a_process_that_dies_is_gone_from_the_queue_and_lost(cluster: Cluster) -> None:
    with cluster.start("lora.rank=1,2", "pack=1", *LONG, "slurm.array_parallelism=1") as command:
        cluster.wait_for_training()
        (submission,) = cluster.submissions
        cluster.slurm.kill(f"{submission['job']}_0", managers=False)
        killed = time.monotonic()
        wait_until(lambda: "1 lost" in cluster.status().stdout, 60)
        assert time.monotonic() - killed < 60
        cluster.end()
        _, told = command.communicate(timeout=90)
        assert command.returncode == 1
        assert "lost: SLURM" in told


@pytest.mark.slow
def test_a_person_who_leaves_is_told_how_to_go_on(cluster: Cluster) -> None:
    with cluster.start("lora.rank=1,2", *LONG) as command:
        cluster.wait_for_training()
        command.send_signal(signal.SIGINT)
        _, told = command.communicate(timeout=30)
        assert command.returncode == 130
        (submission,) = cluster.submissions
        assert f"scancel {submission['job']}" in told
        assert "python -m src.status tiny" in told
        status = cluster.status()
        assert status.returncode == 0
        assert "2 running" in status.stdout
        assert "of 100000, SLURM" in status.stdout
        cluster.end()
        status = cluster.status().stdout
        assert "2 interrupted" in status
        assert "The same command continues" in status
