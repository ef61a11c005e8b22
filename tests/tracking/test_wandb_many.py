"""Many cells in one process, a third of which fail: every row stands in the run that it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.spec import RunSpec, TrackingSpec
from src.training.lane import Lane
from tests.experiment.workplace import Workplace, build, record_of
from tests.tracking.stand_in import StandIn
from tests.tracking.studies import own_rows, run_tracked, sent_rows, tracking_id

PACKED, SINGLE = 24, 6


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def cells(place: Workplace) -> list[RunSpec]:
    """30 cells: 24 that train in packs, and 6 that share their texts' length with nobody; five diverge."""
    hot = {"alpha": 1e30, "lr": 1e10, "clip": None}
    packed = [
        place.spec("qv", 1 + number % 3, seed=number, **(hot if number % 6 == 0 else {})) for number in range(PACKED)
    ]
    single = [
        place.spec("o", 2, seed=number, max_length=9 + number, **(hot if number == 0 else {}))
        for number in range(SINGLE)
    ]
    return [*packed, *single]


def test_thirty_cells_a_third_of_them_failing(
    server: StandIn, place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = cells(place)
    runs = place.runs(specs, tmp_path)
    raising = {runs[number].root.name for number in (2, 9, 15, 20, PACKED + 3)}
    step = Lane.apply_step

    def sometimes(lane: Lane, loss: float) -> float:
        if lane.run_id in raising and lane.step == 7:
            raise RuntimeError(f"{lane.run_id} cannot go on")
        return step(lane, loss)

    monkeypatch.setattr(Lane, "apply_step", sometimes)
    outcome, _ = run_tracked(place, specs, tmp_path, TrackingSpec(entity="tester", log_every=1))

    expected = {run.root.name: "completed" for run in runs}
    expected |= dict.fromkeys((runs[number].root.name for number in (*range(0, PACKED, 6), PACKED)), "diverged")
    expected |= dict.fromkeys(raising, "failed")
    assert {run.root.name: record_of(run)["status"] for run in runs} == expected
    assert outcome.num_failed == len(specs) // 3
    ids = {tracking_id(run): run for run in runs}
    assert len(ids) == len(specs)
    trained = {name: stored for name, stored in server.runs.items() if stored.variables["jobType"] == "train"}
    assert trained.keys() == ids.keys()
    for name, stored in trained.items():
        run = ids[name]
        status = expected[run.root.name]
        assert stored.variables["displayName"] == stored.plain_config()["run_id"] == run.root.name
        assert (stored.exit_code, stored.summary["status"]) == (0 if status == "completed" else 1, status)
        assert record_of(run)["tracking"]["id"] == name
        assert sent_rows(stored) == own_rows(run)
        history = record_of(run)["metrics"]["history"]
        seen = [row for row in sent_rows(stored) if "validation/accuracy" in row]
        if status == "completed":
            assert [(row["step"], row["validation/accuracy"]) for row in seen] == [
                (point["step"], point["validation"]["accuracy"]) for point in history
            ]
            assert len(own_rows(run)) == 12 + 2
