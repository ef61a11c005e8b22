"""Tasks that have to stop before their end: they write checkpoints, go back into the queue and continue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.experiment.study import run_study
from src.records import StudyPaths, read_record
from tests.cluster.commands import Cluster
from tests.cluster.slurm import Slurm, wait_until
from tests.experiment.workplace import Workplace, results

# No checkpoints but those that are asked for, and some twenty seconds of training.
MIDDLE = ("lora.rank=1,2", "trainer.max_steps=2500", "trainer.eval_every=1250", "trainer.checkpoint_every=1000000")
pytestmark = pytest.mark.slow


@pytest.fixture
def plain_cluster(plain_slurm: Slurm, place: Workplace, tmp_path: Path) -> Iterator[Cluster]:
    commands = Cluster(plain_slurm, place, tmp_path / "out")
    yield commands
    commands.end()


def assert_as_uninterrupted(cluster: Cluster, folder: Path) -> None:
    """The same cells, one after the other without a break, in this process."""
    specs = [read_record(run.record).run_spec() for run in cluster.runs]
    run_study(specs, cluster.place.settings(folder, pack=2))
    here = StudyPaths.of(folder, "tiny")
    assert results(cluster.runs) == results([here.run(run.root.name) for run in cluster.runs])


def preempt(cluster: Cluster, *more: str) -> str:
    """A sweep that is preempted while it trains; what its task has printed."""
    with cluster.start(*MIDDLE, *more) as command:
        cluster.wait_for_training()
        cluster.slurm.occupy()
        _, told = command.communicate(timeout=600)
        assert command.returncode == 0, told + cluster.log
        (submission,) = cluster.submissions
        assert cluster.slurm.facts(submission["job"])["Restarts"] == "1"
        assert "goes back into the queue" in cluster.log
        assert "Continuing 2 cells from step" in cluster.log
        assert "Traceback" not in cluster.log
        return cluster.log


def test_preemption_costs_no_training_and_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    assert "SIGUSR2" in preempt(cluster)
    assert_as_uninterrupted(cluster, tmp_path / "here")


def test_preemption_by_sigterm_is_told_from_cancellation(plain_cluster: Cluster, tmp_path: Path) -> None:
    assert "SIGTERM" in preempt(plain_cluster)
    assert_as_uninterrupted(plain_cluster, tmp_path / "here")


def test_a_task_that_is_asked_while_it_loads_goes_back(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.start("lora.rank=1,2") as command:
        wait_until(lambda: any(cluster.study.slurm.glob("*/*.alive")), 60)
        (submission,) = cluster.submissions
        cluster.slurm.call("scancel", "--signal=USR2", submission["job"])
        _, told = command.communicate(timeout=600)
        assert command.returncode == 0, told + cluster.log
    assert cluster.slurm.facts(submission["job"])["Restarts"] == "1"
    assert "goes back into the queue" in cluster.log
    assert "Continuing" not in cluster.log
    assert list(cluster.study.slurm.glob("*/*.error")) == []
    assert_as_uninterrupted(cluster, tmp_path / "here")


def test_a_time_out_is_continued(cluster: Cluster, tmp_path: Path) -> None:
    steps = ("trainer.max_steps=6000", "trainer.eval_every=3000")
    with cluster.start(*MIDDLE, *steps, "slurm.time=1", "slurm.notice=10") as command:
        _, told = command.communicate(timeout=900)
        assert command.returncode == 0, told + cluster.log
    assert "Continuing 2 cells from step" in cluster.log
    assert_as_uninterrupted(cluster, tmp_path / "here")


def test_requeues_are_limited(cluster: Cluster) -> None:
    with cluster.start(*MIDDLE, "slurm.requeues=0") as command:
        cluster.wait_for_training()
        cluster.slurm.occupy()
        _, told = command.communicate(timeout=100)
        assert command.returncode == 1
        assert "as often as slurm.requeues allows" in told
        assert cluster.statuses == ["interrupted"] * 2
        assert "2 interrupted" in cluster.status().stdout
        wait_until(lambda: not cluster.slurm.call("squeue", "--noheader"), 60)


def test_the_runs_mirror_goes_on(cluster: Cluster) -> None:
    """W&B's id of a run lies in its folder: a requeued task continues that run."""
    preempt(cluster, "tracking=wandb", "tracking.mode=offline")
    for run in cluster.runs:
        # The later part has all rows and takes the place of the earlier one.
        (own,) = run.root.glob("wandb/offline-run-*")
        assert own.name.rpartition("-")[2] == read_record(run.record).tracking["id"]
