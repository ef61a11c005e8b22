"""A pack that fails: only the guilty cell fails, with its traceback, and only it runs again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from src.errors import WriteError
from src.experiment import pack as pack_module
from src.experiment.session import Session
from src.experiment.study import run_study
from src.records import RunPaths
from src.spec import RunSpec
from tests.experiment.workplace import STUDY, Workplace, build, record_of, results, snapshot
from tests.full_disk import files_at_most


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cells of which the progress display was told that they ended."""
    told: list[str] = []
    report = Session.report_cell
    monkeypatch.setattr(Session, "report_cell", lambda self, record: (told.append(record.run_id), report(self, record)))
    return told


def four(place: Workplace) -> list[RunSpec]:
    return [place.spec(targets, rank) for targets, rank in (("qv", 1), ("all", 4), ("o", 3), ("k", 2))]


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@contextmanager
def failing(guilty: RunPaths, fail: Callable[[], None]) -> Iterator[None]:
    """While it lasts, one cell's artifacts cannot be saved."""
    save = pack_module.save_lane

    def save_or_fail(model: Any, lane: int, paths: RunPaths, examples: Any) -> None:
        if paths == guilty:
            fail()
        save(model, lane, paths, examples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_module, "save_lane", save_or_fail)
        yield


@pytest.mark.parametrize("position", [0, 1, 3])
def test_only_the_guilty_cell_fails_and_only_it_runs_again(
    place: Workplace, tmp_path: Path, reported: list[str], position: int
) -> None:
    specs = four(place)
    runs = place.runs(specs, tmp_path)
    guilty, others = runs[position], [run for run in runs if run != runs[position]]
    with failing(guilty, raising(RuntimeError("a bug in one lane"))):
        outcome = run_study(specs, place.settings(tmp_path))
    assert outcome.num_failed == 1
    assert sorted(reported) == sorted(run.root.name for run in runs)
    record = record_of(guilty)
    assert (record["status"], record["error"]["type"]) == ("failed", "RuntimeError")
    assert record["error"]["message"] == "a bug in one lane"
    assert record["error"]["traceback"].startswith("Traceback (most recent call last)")
    assert "save_or_fail" in record["error"]["traceback"]
    assert record["metrics"] == {"validation": None, "test": None, "history": []}
    assert (record["time"]["train_s"], record["best_epoch"], record["params"]["head"]) == (None, None, None)
    assert [record_of(run)["status"] for run in others] == ["completed"] * 3
    assert "a bug in one lane" in (tmp_path / STUDY / "report" / "table.md").read_text()
    before = snapshot(tmp_path / STUDY / "runs")
    assert run_study(specs, place.settings(tmp_path)).num_failed == 0
    after = snapshot(tmp_path / STUDY / "runs")
    changed = {Path(name).parts[0] for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {guilty.root.name}


def test_a_failed_cell_that_runs_again_comes_to_what_it_would_have_been(place: Workplace, tmp_path: Path) -> None:
    specs = four(place)
    run_study(specs, place.settings(tmp_path / "whole"))
    runs = place.runs(specs, tmp_path / "broken")
    with failing(runs[2], raising(RuntimeError("a bug"))):
        run_study(specs, place.settings(tmp_path / "broken"))
    run_study(specs, place.settings(tmp_path / "broken"))
    assert results(runs) == results(place.runs(specs, tmp_path / "whole"))


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), AssertionError("impossible")])
def test_whatever_a_cell_raises_the_others_finish(place: Workplace, tmp_path: Path, error: BaseException) -> None:
    specs = four(place)[:2]
    guilty, other = place.runs(specs, tmp_path)
    with failing(guilty, raising(error)):
        assert run_study(specs, place.settings(tmp_path)).num_failed == 1
    # Memory that ran out is said in words that help.
    expected = "DoesNotFitError" if isinstance(error, MemoryError) else type(error).__name__
    assert record_of(guilty)["error"]["type"] == expected
    assert record_of(other)["status"] == "completed"


def test_a_person_who_stops_at_once_stops_everything(place: Workplace, tmp_path: Path) -> None:
    specs = four(place)[:2]
    runs = place.runs(specs, tmp_path)
    with failing(runs[0], raising(KeyboardInterrupt())), pytest.raises(KeyboardInterrupt):
        run_study(specs, place.settings(tmp_path))
    assert not any(run.record.exists() for run in runs)
    assert run_study(specs, place.settings(tmp_path)).num_failed == 0
    # The lanes' end was on disk before the first record was due, so nothing was trained twice.
    assert "Continuing 2 cells from step 12" in (tmp_path / STUDY / "study.log").read_text()


def test_the_base_is_whole_again_after_a_failure(place: Workplace, tmp_path: Path) -> None:
    """Cells of another pack that come after it in the same process see a base without leftovers."""
    specs = [*four(place), *(place.spec("qv", 1, max_steps=6 + 6 * i, batch_size=4) for i in range(2))]
    runs = place.runs(specs, tmp_path / "broken")
    with failing(runs[0], raising(RuntimeError("a bug"))):
        run_study(specs, place.settings(tmp_path / "broken"))
    run_study(specs, place.settings(tmp_path / "whole"))
    assert results(runs[1:]) == results(place.runs(specs, tmp_path / "whole")[1:])


def test_the_halves_of_a_failed_pack_get_its_memory(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the failed pack's frames held, such as activations, is gone when the halves start."""
    train, alive = pack_module.train_pack, []
    kept: list[weakref.ref[torch.Tensor]] = []

    def too_large(model: Any, data: Any, lanes: Any, *rest: Any, **refill: Any) -> None:
        gc.collect()
        alive.append(sum(ref() is not None for ref in kept))
        activations = torch.ones(10)
        kept.append(weakref.ref(activations))
        if len(lanes) > 1:
            raise MemoryError
        train(model, data, lanes, *rest, **refill)

    monkeypatch.setattr(pack_module, "train_pack", too_large)
    specs = four(place)
    assert run_study(specs, place.settings(tmp_path)).num_failed == 0
    assert {record_of(run)["time"]["pack_size"] for run in place.runs(specs, tmp_path)} == {1}
    assert alive == [0] * 6  # packs of 4, 2, 1 and 1, and then no pack of 2 any more


def damage_weights(checkpoint: Path) -> None:
    (checkpoint / "state.safetensors").write_bytes(b"\xff" * 64)


def damage_roster(checkpoint: Path) -> None:
    (checkpoint / "state.json").write_text("{}")


def damage_json(checkpoint: Path) -> None:
    (checkpoint / "state.json").write_text("{")


@pytest.mark.parametrize("damage", [damage_weights, damage_roster, damage_json])
def test_a_damaged_checkpoint_costs_one_cell_and_says_what_to_do(
    place: Workplace, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    specs = four(place)
    runs = place.runs(specs, tmp_path)
    with failing(runs[0], raising(KeyboardInterrupt())), pytest.raises(KeyboardInterrupt):
        run_study(specs, place.settings(tmp_path))
    (checkpoint,) = runs[2].checkpoints.iterdir()
    damage(checkpoint)
    assert run_study(specs, place.settings(tmp_path)).num_failed == 1
    record = record_of(runs[2])
    assert record["status"] == "failed"
    assert "cannot be read" in record["error"]["message"]
    assert "rerun=true" in record["error"]["message"]
    assert run_study(specs, place.settings(tmp_path, rerun=True)).num_failed == 0


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_that_looks_complete(
    place: Workplace, tmp_path: Path
) -> None:
    specs = [place.spec("all", 8), place.spec("q", 1)]
    run_study(specs[1:], place.settings(tmp_path / "fills_the_cache"))
    with files_at_most(10_000), pytest.raises(WriteError) as caught:
        run_study(specs, place.settings(tmp_path))
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith("Cannot write step-00000004 in ")
    assert "free some space" in str(caught.value)
    assert "\n" not in str(caught.value)
    runs = place.runs(specs, tmp_path)
    assert not any(run.record.exists() for run in runs)
    assert not [path for run in runs for path in run.root.rglob("*.tmp")]
    assert run_study(specs, place.settings(tmp_path)).num_failed == 0


def test_a_run_folder_that_cannot_be_written_stops_the_study(place: Workplace, tmp_path: Path) -> None:
    specs = four(place)[:2]
    runs = place.runs(specs, tmp_path)
    runs[1].root.parent.mkdir(parents=True)
    runs[1].root.write_text("in the way")
    with pytest.raises(WriteError, match="Not a directory"):
        run_study(specs, place.settings(tmp_path))
    assert not runs[0].record.exists()
    runs[1].root.unlink()
    assert run_study(specs, place.settings(tmp_path)).num_failed == 0
