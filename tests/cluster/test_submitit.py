"""Hydra's own submitit launchers: one job for each cell, checked before submission; nothing is waited for in vain."""

from __future__ import annotations

import time

import pytest

from tests.cluster.commands import Cluster
from tests.cluster.test_slurm import LONG
from tests.experiment.workplace import record_of

SLURM = (
    "hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=1", "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.timeout_min=20",
)  # fmt: skip
LOCAL = ("hydra/launcher=submitit_local",)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [SLURM, LOCAL], ids=["slurm", "local"])
def test_each_cell_is_a_job_of_its_own(cluster: Cluster, launcher: tuple[str, ...]) -> None:
    result = cluster.train("lora.rank=1,2", *launcher)
    assert result.returncode == 0, result.stderr
    assert cluster.statuses == ["completed"] * 2
    assert "2 of 2 cells done" in cluster.status().stdout
    assert cluster.report().returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [SLURM, LOCAL], ids=["slurm", "local"])
def test_bad_cells_refuse_all_before_submission(cluster: Cluster, launcher: tuple[str, ...]) -> None:
    for rank in (0, 999):
        result = cluster.train(f"lora.rank=1,{rank}", *launcher)
        assert result.returncode == 2
        assert f"lora.rank is {rank}" in result.stderr
    assert list(cluster.output.rglob("*_submitted.pkl")) == []


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [SLURM, LOCAL], ids=["slurm", "local"])
def test_a_cell_that_diverges_does_not_stop_the_other(cluster: Cluster, launcher: tuple[str, ...]) -> None:
    result = cluster.train("lora.rank=2", "optim.lr=1e-2,1e30", "optim.clip=null", *launcher)
    assert result.returncode == 1
    assert sorted(cluster.statuses) == ["completed", "diverged"]
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_killed_job_is_not_waited_for(cluster: Cluster) -> None:
    with cluster.start("lora.rank=1", *LONG, *SLURM) as command:
        cluster.wait_for_training()
        (job,) = cluster.slurm.call("squeue", "--noheader", "--format=%A").split()
        cluster.slurm.kill(job, managers=False)
        killed = time.monotonic()
        _, told = command.communicate(timeout=120)
        assert command.returncode == 1
        assert time.monotonic() - killed < 90
        assert "ended without a result" in told


@pytest.mark.slow
def test_preemption_checkpoints_and_requeues(cluster: Cluster) -> None:
    steps = ("trainer.max_steps=2500", "trainer.eval_every=1250", "trainer.checkpoint_every=1000000")
    with cluster.start("lora.rank=1", *steps, *SLURM, "hydra.launcher.max_num_timeout=3") as command:
        cluster.wait_for_training()
        cluster.slurm.occupy()
        _, told = command.communicate(timeout=200)
        assert command.returncode == 0, told
        assert [record_of(run)["status"] for run in cluster.runs] == ["completed"]
        (log,) = [path.read_text() for path in cluster.output.rglob("*_log.err")]
        assert "Continuing 1 cell from step" in log
