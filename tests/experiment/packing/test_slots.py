"""Places that become free in a running pack are taken by cells that wait; no result depends on it."""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from src.comparison import StudyTable
from src.errors import InterruptedRunError
from src.experiment import pack as pack_module
from src.experiment import study as study_module
from src.experiment.observer import PackObserver
from src.experiment.packing.plan import FixedSize, plan_packs
from src.experiment.packing.slots import in_turn
from src.experiment.processes.sharing import Alone
from src.experiment.resolve import resolve_cells
from src.experiment.study import run_study
from src.records import RunPaths, StudyPaths
from src.spec import HalvingSpec, RunSpec
from src.training import checkpoint
from tests.experiment.test_resume import signalled
from tests.experiment.workplace import STUDY, Workplace, build, record_of, results, snapshot

pytestmark = pytest.mark.slow
SIZE = 2
NOWHERE = StudyPaths.of("nowhere", "study")
# Rates and dropouts of so many kinds that cells stop at many different validations.
CELLS: list[tuple[str, int, dict[str, Any]]] = [
    ("qv", 1, {"lr": 1e-2, "dropout": 0.2}),
    ("all", 4, {"lr": 1e-1, "seed": 1}),
    ("o", 3, {"lr": 3e-2, "head_lr": 1e-1}),
    ("k", 2, {"lr": 1e-3, "head_lr": 1e-3, "dropout": 0.1, "seed": 2}),
    ("qkvo", 2, {"lr": 1e-4, "head_lr": 3e-1}),
    ("u", 2, {"lr": 1e-2, "head_lr": 3e-2, "seed": 1}),
    ("d", 3, {"lr": 3e-2, "dropout": 0.1, "seed": 2}),
]


@pytest.fixture(scope="module", autouse=True)
def without_reports() -> Iterator[None]:
    """They would take most of the time of many short studies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "report_study", lambda *_: (StudyTable("", (), (), ()), []))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def cells(place: Workplace, **changes: Any) -> list[RunSpec]:
    """Cells that stop when a validation is no better than the best."""
    loop = {"max_steps": 14, "eval_every": 2, "patience": 1, "metric": "loss", "checkpoint_every": 3, **changes}
    return [place.spec(targets, rank, **{**loop, **own}) for targets, rank, own in CELLS]


@contextmanager
def counted() -> Iterator[list[int]]:
    """Lanes of each step of each pack."""
    stepped, lanes = PackObserver.stepped, []

    def step(self: PackObserver, *arguments: Any) -> None:
        lanes.append(len(self.members))
        stepped(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackObserver, "stepped", step)
        yield lanes


@pytest.fixture(scope="module")
def whole(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What comes out without an interruption."""
    output = tmp_path_factory.mktemp("whole")
    run_study(cells(place), place.settings(output, pack=SIZE))
    return results(place.runs(cells(place), output))


def last_step(run: RunPaths) -> int:
    step: int = record_of(run)["metrics"]["history"][-1]["step"]
    return step


def check_equal(runs: list[RunPaths], others: list[RunPaths], skip: tuple[str, ...] = ()) -> None:
    """To 1e-10, in float64."""
    for mine, other in zip(runs, others, strict=True):
        a, b = record_of(mine), record_of(other)
        if a["status"] in skip:
            continue
        assert a["status"] == b["status"]
        assert a["metrics"]["test"]["loss"] == pytest.approx(b["metrics"]["test"]["loss"], rel=1e-10)
        assert [point["step"] for point in a["metrics"]["history"]] == [p["step"] for p in b["metrics"]["history"]]
        if mine.adapter_weights.exists():
            x, y = load_file(mine.adapter_weights), load_file(other.adapter_weights)
            assert all((x[name] - y[name]).abs().max() < 1e-10 for name in x.keys() | y.keys())


def test_places_of_cells_that_stop_early_are_taken_at_once(place: Workplace, tmp_path: Path) -> None:
    specs = cells(place, dtype="float64")
    run_study(specs, place.settings(tmp_path / "alone", pack=1))
    with counted() as lanes:
        assert run_study(specs, place.settings(tmp_path / "packed", pack=SIZE)).num_failed == 0
    packed = place.runs(specs, tmp_path / "packed")
    check_equal(packed, place.runs(specs, tmp_path / "alone"))
    # By hand: who waits takes the first place that becomes free, in the planned order.
    order = [cell.run_id for pack in plan_packs(resolve_cells(specs, place.cache), SIZE, NOWHERE) for cell in pack]
    steps = {run.root.name: last_step(run) for run in packed}
    assert len(set(steps.values())) > 2
    ends, free_at = [], [0] * SIZE
    for run_id in order:
        first = free_at.index(min(free_at))
        free_at[first] += steps[run_id]
        ends.append(free_at[first])
    assert len(lanes) == max(ends)
    unfilled = sum(max(steps[run_id] for run_id in order[at : at + SIZE]) for at in range(0, len(order), SIZE))
    assert len(lanes) < unfilled
    assert set(lanes[: min(free_at)]) == {SIZE}, "no place is free while somebody waits"
    assert "takes a free place at step" in (tmp_path / "packed" / STUDY / "study.log").read_text()
    assert not any(run.checkpoints.exists() for run in packed)
    assert {record_of(run)["time"]["pack_size"] for run in packed} == {SIZE}


def test_without_early_stop_packs_are_those_planned(place: Workplace, tmp_path: Path) -> None:
    specs = cells(place, patience=None, max_steps=4)
    with counted() as lanes:
        run_study(specs, place.settings(tmp_path, pack=3))
    resolved = resolve_cells(specs, place.cache)
    plan = plan_packs(resolved, 3, NOWHERE)
    assert lanes == [len(pack) for pack in plan for _ in range(4)]
    taken = [tuple(slots.cells) for slots in in_turn(resolved, FixedSize(3), NOWHERE, None, Alone())]
    assert taken == plan


def test_places_of_cells_that_diverge_stay_theirs(place: Workplace, tmp_path: Path) -> None:
    hot = [place.spec("q", 1, lr=10.0 * seed, alpha=1e38, clip=None, seed=seed) for seed in (1, 2, 3)]
    specs = [*hot, *(place.spec("v", rank, seed=5) for rank in (1, 2, 3))]
    with counted() as lanes:
        run_study(specs, place.settings(tmp_path, pack=3))
    statuses = [record_of(run)["status"] for run in place.runs(specs, tmp_path)]
    assert statuses == ["diverged"] * 3 + ["completed"] * 3
    assert lanes[-12:] == [3] * 12 and max(lanes) == 3
    assert "takes a free place" not in (tmp_path / STUDY / "study.log").read_text()


@contextmanager
def killed(owner: Any, name: str, after: int) -> Iterator[None]:
    """Die before the call of this number of a function."""
    function, calls = getattr(owner, name), itertools.count(1)

    def die(*arguments: Any, **options: Any) -> Any:
        if next(calls) == after:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, die)
        yield


def dies(place: Workplace, output: Path, function: tuple[Any, str], after: int) -> bool:
    with killed(*function, after):
        try:
            run_study(cells(place), place.settings(output, pack=SIZE))
        except KeyboardInterrupt:
            return True
    return False


@pytest.mark.parametrize("after", [2, 8, 13, 20])
def test_stopped_and_continued_it_ends_at_the_same_bits(
    place: Workplace, whole: list[Any], tmp_path: Path, after: int
) -> None:
    with signalled(signal.SIGINT, after), pytest.raises(InterruptedRunError):
        run_study(cells(place), place.settings(tmp_path, pack=SIZE))
    assert run_study(cells(place), place.settings(tmp_path, pack=SIZE)).num_failed == 0
    assert results(place.runs(cells(place), tmp_path)) == whole


@pytest.mark.parametrize(
    ("function", "every"),
    [
        ((checkpoint, "atomic_folder"), 5),  # between the checkpoints of two lanes
        ((shutil, "rmtree"), 7),  # while older ones are removed
        ((pack_module, "write_record"), 2),
        ((pack_module, "save_lane"), 2),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_killed_again_and_again_it_ends_at_the_same_bits(
    place: Workplace, whole: list[Any], tmp_path: Path, function: tuple[Any, str], every: int
) -> None:
    kills = 0
    while dies(place, tmp_path, function, every + kills):
        kills += 1
    assert kills > 1
    # A kill between a record and the removal of its checkpoints leaves these where they are.
    for run in place.runs(cells(place), tmp_path):
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    assert results(place.runs(cells(place), tmp_path)) == whole


def test_a_pack_that_continues_keeps_its_size(place: Workplace, whole: list[Any], tmp_path: Path) -> None:
    """A larger pack size and more cells are for the packs that come after."""
    with signalled(signal.SIGINT, 7), pytest.raises(InterruptedRunError):
        run_study(cells(place), place.settings(tmp_path, pack=SIZE))
    runs = place.runs(cells(place), tmp_path)
    begun = [i for i, run in enumerate(runs) if run.checkpoints.exists()]
    assert len(begun) == SIZE
    run_study(cells(place), place.settings(tmp_path, pack=7))
    again = results(runs)
    assert all(again[i] == whole[i] for i in begun)
    assert all(record_of(runs[i])["time"]["pack_size"] == SIZE for i in begun)


# Failures.


def test_who_ended_before_a_failure_does_not_run_again(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last cell fails at its end, in a pack that others have left before."""
    specs = cells(place)
    runs = place.runs(specs, tmp_path)
    order = [cell.run_id for pack in plan_packs(resolve_cells(specs, place.cache), SIZE, NOWHERE) for cell in pack]
    guilty, save, written = order[3], pack_module.save_lane, list[str]()

    def save_or_fail(model: Any, lane: int, paths: RunPaths, examples: Any) -> None:
        if paths.root.name == guilty:
            raise RuntimeError("a bug in one lane")
        written.append(paths.root.name)
        save(model, lane, paths, examples)

    monkeypatch.setattr(pack_module, "save_lane", save_or_fail)
    assert run_study(specs, place.settings(tmp_path, pack=SIZE)).num_failed == 1
    statuses = {run.root.name: record_of(run)["status"] for run in runs}
    assert [name for name, status in statuses.items() if status != "completed"] == [guilty]
    assert statuses[guilty] == "failed"
    assert len(written) == len(set(written)) == len(specs) - 1
    monkeypatch.undo()
    before = snapshot(tmp_path / STUDY / "runs")
    assert run_study(specs, place.settings(tmp_path, pack=SIZE)).num_failed == 0
    after = snapshot(tmp_path / STUDY / "runs")
    assert {Path(name).parts[0] for name in before.keys() | after if before.get(name) != after.get(name)} == {guilty}


def test_who_cannot_join_trains_later(place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs, refused = cells(place), []
    add: Callable[..., int] = pack_module.AdaptedModel.add

    def refuse(self: Any, setup: Any) -> int:
        if not refused:
            refused.append(setup)
            raise RuntimeError("no place")
        return add(self, setup)

    monkeypatch.setattr(pack_module.AdaptedModel, "add", refuse)
    assert run_study(specs, place.settings(tmp_path, pack=SIZE)).num_failed == 0
    assert len(refused) == 1


def raced(place: Workplace) -> list[RunSpec]:
    """One of them diverges at its first step."""
    own = {"dtype": "float64", "max_steps": 16, "eval_every": 1}
    hot = place.spec("q", 1, alpha=1e200, clip=None, patience=1, metric="loss", checkpoint_every=3, lr=10.0, **own)
    return [hot, *cells(place, **own)]


@pytest.fixture(scope="module")
def unhalved(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> list[RunPaths]:
    output = tmp_path_factory.mktemp("unhalved")
    run_study(raced(place), place.settings(output, pack=1))
    return place.runs(raced(place), output)


@pytest.mark.parametrize("after", [None, 5, 13])
def test_halving_with_early_stop(place: Workplace, unhalved: list[RunPaths], tmp_path: Path, after: int | None) -> None:
    """Cells pause at a rung at different steps of their packs; who goes on ends where it would have ended."""
    halved = place.settings(tmp_path, pack=SIZE, halving=HalvingSpec(eta=2, scope="all"))
    if after is not None:
        with signalled(signal.SIGINT, after), pytest.raises(InterruptedRunError):
            run_study(raced(place), halved)
    with counted() as lanes:
        assert run_study(raced(place), halved).num_failed == 1
    runs = place.runs(raced(place), tmp_path)
    statuses = [record_of(run)["status"] for run in runs]
    assert statuses.count("eliminated") == 2 and {"completed", "diverged"} < set(statuses)
    check_equal(runs, unhalved, skip=("eliminated", "diverged"))
    assert not any(run.checkpoints.exists() for run in runs)
    assert max(lanes) == SIZE
    assert (tmp_path / STUDY / "study.log").read_text().count("takes a free place") > 2
