"""Studies whose W&B server fails: no training suffers, little time is lost, and `wandb sync` brings every row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.experiment.observer import PackObserver
from src.records import StudyPaths
from src.spec import RunSpec, TrackingSpec
from tests.experiment.workplace import STUDY, Workplace, build
from tests.tracking.stand_in import StandIn
from tests.tracking.studies import own_rows, run_tracked, sent_rows, sync, tracking_id

TIMEOUT_S = 2.0
# What the loss of a server may cost at most: both time-outs, and 5 seconds.
BOUND_S = 2 * TIMEOUT_S + 5.0
STEPS, VALIDATIONS = 100, 2
OFFLINE = TrackingSpec(mode="offline", log_every=1)
FAULTS = ("gone", "hang", 503, 429, 403)
# One of each moment in every run of the tests, the others where there is time.
FAST = {("init", "hang"), ("rows", 503), ("finish", "gone")}
CASES = [
    pytest.param(moment, fault, id=f"{fault}-at-{moment}", marks=[] if (moment, fault) in FAST else pytest.mark.slow)
    for moment in ("start", "init", "rows", "finish")
    for fault in FAULTS
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def healthy_s(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that W&B takes where no server is in play."""
    folders = [tmp_path_factory.mktemp("healthy") for _ in range(2)]
    return min(run_tracked(place, cells(place), folder, OFFLINE)[1] for folder in folders)


def cells(place: Workplace) -> list[RunSpec]:
    return [place.spec("qv", rank, max_steps=STEPS, eval_every=50, checkpoint_every=500) for rank in (1, 2, 4)]


def wait_in_training(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training wait in its middle until the server has broken down."""
    stepped = PackObserver.stepped

    def step(self: PackObserver, *arguments: Any) -> None:
        stepped(self, *arguments)
        if self.clock == STEPS // 2:
            assert server.broken.wait(30)

    monkeypatch.setattr(PackObserver, "stepped", step)
    # In whole seconds; wandb-core rounds down, and takes 0 for its default of 15.
    monkeypatch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "1")


@pytest.mark.parametrize(("moment", "fault"), CASES)
def test_a_server_that_fails_costs_little_and_no_row(  # noqa: PLR0917 - fixtures
    server: StandIn,
    place: Workplace,
    healthy_s: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_testsuite_property: Callable[[str, object], None],
    moment: str,
    fault: int | str,
) -> None:
    if moment == "rows":
        wait_in_training(server, monkeypatch)
    if moment == "start":
        server.break_down(fault)
    else:
        server.break_at(moment, fault)
    spec = TrackingSpec(entity="tester", log_every=1, init_timeout_s=TIMEOUT_S, finish_timeout_s=TIMEOUT_S)

    outcome, took = run_tracked(place, cells(place), tmp_path, spec)

    added_s = took - healthy_s
    record_testsuite_property(f"{fault} at {moment}", round(added_s, 2))
    assert server.broken.is_set()
    assert outcome.num_failed == 0
    assert added_s < BOUND_S
    runs = place.runs(cells(place), tmp_path)
    assert [len(own_rows(run)) for run in runs] == [STEPS + VALIDATIONS] * len(runs)
    arrived = sum(len(stored.lines) for stored in server.runs.values())
    assert arrived < len(runs) * (STEPS + VALIDATIONS)
    if moment != "finish":  # before which rows go out every 15 s, if training takes so long
        assert bool(arrived) == (moment == "rows")
    warnings = StudyPaths.of(tmp_path, STUDY).log.read_text()
    assert warnings.count("W&B cannot be reached or refuses") + warnings.count("W&B did not take all data") >= 1

    with StandIn(server.runs) as healthy:
        sync(healthy, tmp_path)
    for run in runs:
        stored = server.runs[tracking_id(run)]
        assert sent_rows(stored) == own_rows(run)
        assert stored.exit_code == 0
