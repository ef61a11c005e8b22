"""What a process of ours does with the run that `wandb agent` has announced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from src.spec import TrackingSpec
from src.tracking import RunInfo, StudySummary, Tracker, make_tracker, mirror_study
from tests.tracking.stand_in import StandIn
from tests.tracking.wandb_file import read_runs

Said = Callable[[], list[str]]
SWEEP, RUN = "abcd1234", "agents01"


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment as `Agent._command_run` leaves it to the process that it starts."""
    parameters = tmp_path / "config.yaml"
    parameters.write_text("lora.rank:\n  value: 8\nwandb_version: 1\n")
    environment = {"SWEEP_ID": SWEEP, "RUN_ID": RUN, "SWEEP_PARAM_PATH": parameters, "PROJECT": "swept"}
    for name, value in {**environment, "ENTITY": "tester", "DIR": tmp_path / "agent"}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))


def train(tracker: Tracker, tmp_path: Path, name: str = "qv-r8", previous_id: str | None = None) -> str | None:
    run = tracker.start(RunInfo(name, "study", {"rank": 8}, (), "train", tmp_path / name, previous_id))
    run.log({"loss": 1.0}, step=1)
    run.finish("completed", {"best_validation/accuracy": 0.5})
    return run.tracking_id


def test_the_only_cell_is_the_agents_run(agent: None, server: StandIn, tmp_path: Path, said: Said) -> None:
    tracker = make_tracker(TrackingSpec(project="other", entity="somebody"))
    assert train(tracker, tmp_path) == RUN
    tracker.close()
    (run,) = server.runs.values()
    sent = run.variables
    assert (sent["name"], sent["sweep"], sent["project"], sent["entity"]) == (RUN, SWEEP, "swept", "tester")
    assert run.plain_config() == {"rank": 8, "lora.rank": 8}
    assert (run.summary["best_validation/accuracy"], run.exit_code) == (0.5, 0)
    assert not {"WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"} & set(os.environ)
    assert not (tmp_path / "agent").exists()
    assert said() == []


def test_of_several_cells_one_is_the_agents_and_each_has_its_id(
    agent: None, server: StandIn, tmp_path: Path, said: Said
) -> None:
    tracker = make_tracker(TrackingSpec(entity="tester"))
    ids = [train(tracker, tmp_path, f"lane{lane}") for lane in range(3)]
    tracker.close()
    later = make_tracker(TrackingSpec(entity="tester"))
    ids.append(train(later, tmp_path, "later"))
    later.close()
    assert ids[0] == RUN
    assert len(set(ids)) == 4
    attached = {name: run.variables.get("sweep") for name, run in server.runs.items()}
    assert attached == dict(zip(ids, [SWEEP, None, None, None], strict=True))
    assert all(len(run.history) == 1 for run in server.runs.values())
    assert said() == []


def test_the_agents_run_goes_before_an_earlier_attempts(agent: None, server: StandIn, tmp_path: Path) -> None:
    tracker = make_tracker(TrackingSpec())
    assert train(tracker, tmp_path, previous_id="earlier") == RUN
    tracker.close()
    assert list(server.runs) == [RUN]


def test_without_a_server_the_run_waits_on_disk_under_the_agents_id(
    agent: None, server: StandIn, tmp_path: Path, said: Said
) -> None:
    server.behaviour["graphql"] = 403
    tracker = make_tracker(TrackingSpec(init_timeout_s=1.5, finish_timeout_s=1.5))
    train(tracker, tmp_path)
    tracker.close()
    (found,) = read_runs(tmp_path / "qv-r8", "offline-run")
    assert (found.run.run_id, found.run.sweep_id, found.run.project) == (RUN, SWEEP, "swept")
    assert ["cannot be reached or refuses" in text for text in said()] == [True]


def test_a_run_id_without_a_sweep_is_not_an_agents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", RUN)
    tracker = make_tracker(TrackingSpec(mode="offline"))
    assert train(tracker, tmp_path) != RUN
    tracker.close()


def test_parameters_that_cannot_be_read_are_said_once(
    agent: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: Said
) -> None:
    (tmp_path / "config.yaml").write_text("lora.rank: 8\n")
    tracker = make_tracker(TrackingSpec(mode="offline"))
    assert train(tracker, tmp_path) == RUN
    tracker.close()
    assert ["parameters of the W&B sweep cannot be read" in text for text in said()] == [True]


def test_an_agents_cell_sends_no_summary_of_its_study(agent: None, tmp_path: Path) -> None:
    assert mirror_study(TrackingSpec(mode="offline"), StudySummary("study", tmp_path / "study")) is None
    assert not (tmp_path / "study").exists()
