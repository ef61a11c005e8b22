"""``pack=auto``: packs are measured on real lanes, remembered, and made smaller where memory runs out."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from src.adapters.lora_linear import LoraLinear
from src.errors import InterruptedRunError
from src.experiment.display.progress import NullProgress
from src.experiment.packing import measure_packs as measure_module
from src.experiment.packing import pack_size
from src.experiment.packing.measure_packs import measure_packs
from src.experiment.packing.memory import is_out_of_memory
from src.experiment.packing.pack_size import PackSizes, describe_packs, row_padding
from src.experiment.packing.pack_table import Measured, PackTable, read_table, write_table
from src.experiment.resolve import Cell, resolve_cells
from src.experiment.resources import Resources
from src.experiment.study import run_study
from src.models.adapted import AdaptedModel
from src.records import StudyPaths
from src.spec import RunSpec
from src.training.data_order import DataOrder
from tests.experiment.workplace import STUDY, Workplace, build, record_of, results

PLENTY = 1e12


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


@pytest.fixture
def resources(place: Workplace, tmp_path: Path) -> Resources:
    return Resources("cpu", tmp_path / "cache")


def specs_of(place: Workplace, count: int, **changes: Any) -> list[RunSpec]:
    return [place.spec("qv", 1 + i % 4, lr=1e-3 * (i + 1), **changes) for i in range(count)]


def cells_of(place: Workplace, count: int, **changes: Any) -> list[Cell]:
    return resolve_cells(specs_of(place, count, **changes), place.cache)


def sizes_for(resources: Resources, stop: threading.Event | None = None) -> PackSizes:
    return PackSizes("auto", resources, NullProgress(), stop or threading.Event())


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny runs are worth measuring."""
    monkeypatch.setattr(pack_size, "MOST_MEASURING", 1e6)


def run_out_above(lanes: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let memory run out where more lanes train together; the sizes of the packs that tried."""
    forward, tried = AdaptedModel.forward, []

    def limited(self: AdaptedModel, batches: Any, *, training: bool) -> Any:
        if training and len(batches) > lanes:
            tried.append(len(batches))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, batches, training=training)

    monkeypatch.setattr(AdaptedModel, "forward", limited)
    return tried


def test_measured_lanes_leave_the_base_as_it_was(place: Workplace, resources: Resources) -> None:
    cells = cells_of(place, 3, dropout=0.1)
    base, data = resources.base(cells[0].spec), resources.data(cells[0].spec)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    drawn = torch.get_rng_state()
    table = measure_packs(cells, base, data, [1, 2, 3], room=PLENTY, stop=threading.Event())
    assert [m.size for m in table.measured] == [1, 2, 3]
    assert all(m.tokens_per_s > 0 for m in table.measured)
    assert not any(isinstance(module, LoraLinear) for module in base.model.modules())
    after = base.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_cells_end_where_they_would_have_ended_without_measuring(
    place: Workplace, tmp_path: Path, always: None
) -> None:
    mine = Workplace(place.model, place.data, tmp_path / "cache")
    specs = specs_of(mine, 4, dropout=0.1)
    run_study(specs, mine.settings(tmp_path / "auto", pack="auto"))
    measured = mine.runs(specs, tmp_path / "auto")
    assert len(list((mine.cache / "packs").iterdir())) == 1
    sizes = {record_of(run)["time"]["pack_size"] for run in measured}
    log = (tmp_path / "auto" / STUDY / "study.log").read_text()
    assert "(measured now)" in log and "Measuring how fast up to 4 cells train together" in log
    run_study(specs, mine.settings(tmp_path / "again", pack="auto"))
    log = (tmp_path / "again" / STUDY / "study.log").read_text()
    assert "(remembered)" in log and "Measuring" not in log
    run_study(specs, mine.settings(tmp_path / "set", pack=max(sizes)))
    for name in ("again", "set"):
        assert results(mine.runs(specs, tmp_path / name)) == results(measured)


def test_little_work_is_not_worth_measuring(
    place: Workplace, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_size, "measure_packs", lambda *_, **__: pytest.fail("measured"))
    sizes = sizes_for(resources)
    assert [sizes.choose(cells_of(place, count)).size for count in (1, 3, 12)] == [1, 3, 8]


def test_what_is_remembered_is_used_and_a_larger_sweep_measures_anew(
    place: Workplace, resources: Resources, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, asked = {1: 100.0, 2: 190.0, 4: 300.0, 8: 305.0}, []

    def measure(cells: Any, base: Any, data: Any, sizes: list[int], **_: Any) -> PackTable:
        asked.append(sizes)
        return PackTable(tuple(Measured(size, rates[size], size) for size in sizes))

    monkeypatch.setattr(pack_size, "measure_packs", measure)
    assert sizes_for(resources).choose(cells_of(place, 4)).size == 4
    assert sizes_for(resources).choose(cells_of(place, 4)).size == 4
    assert sizes_for(resources).choose(cells_of(place, 4)[2:]).size == 2
    assert asked == [[1, 2, 4]]
    assert sizes_for(resources).choose(cells_of(place, 8)).size == 4, "8 are not measurably faster"
    assert asked == [[1, 2, 4], [1, 2, 4, 8]]


def test_the_key_changes_with_what_matters(place: Workplace, resources: Resources, tmp_path: Path) -> None:
    plain = describe_packs(cells_of(place, 2), resources)
    assert describe_packs(cells_of(place, 2, seed=3, head_lr=0.5), resources) == plain
    changes: list[dict[str, Any]] = [
        {"batch_size": 4}, {"accumulation": 2}, {"dtype": "float64"}, {"max_length": 4}, {"dropout": 0.1},
        {"dora": True}, {"gradient_checkpointing": True}, {"layers": "1-1"},
    ]  # fmt: skip
    others = [describe_packs(cells_of(place, 2, **change), resources) for change in changes]
    others += [describe_packs(resolve_cells([place.spec(*shape)], place.cache), resources) for shape in
               [("qvko", 2), ("qv", 16), ("q", 2)]]  # fmt: skip
    other = build(tmp_path / "gpt2", "gpt2")
    others.append(describe_packs(cells_of(other, 2), resources))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        others.append(describe_packs(cells_of(place, 2), resources))
    finally:
        torch.set_num_threads(threads)
    assert plain not in others
    assert len({str(key) for key in others}) == len(others)


def test_no_pack_is_tried_that_would_not_fit(
    place: Workplace, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny packs grow by next to nothing, so each lane is given ten bytes."""
    first = measure_module._Bench.first

    def grows(bench: Any, size: int) -> int:
        first(bench, size)
        return 10 * size

    monkeypatch.setattr(measure_module._Bench, "first", grows)
    cells = cells_of(place, 4)
    base, data = resources.base(cells[0].spec), resources.data(cells[0].spec)
    table = measure_packs(cells, base, data, [1, 2, 4], room=15, stop=threading.Event())
    assert [m.size for m in table.measured] == [1] and table.ended


def test_memory_that_runs_out_while_measuring_limits_the_packs(
    place: Workplace, resources: Resources, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = run_out_above(2, monkeypatch)
    cells = cells_of(place, 8)
    assert sizes_for(resources).choose(cells).size <= 2
    assert tried == [4]
    table = read_table(resources.cache_dir / "packs", describe_packs(cells, resources))
    assert table is not None
    assert (table.most, table.ended) == (2, True)
    assert sizes_for(resources).most(cells) == 2
    assert not any(isinstance(module, LoraLinear) for module in resources.base(cells[0].spec).model.modules())


def test_a_stop_ends_measuring(place: Workplace, resources: Resources, always: None) -> None:
    stop, cells = threading.Event(), cells_of(place, 4)
    stop.set()
    with pytest.raises(InterruptedRunError):
        sizes_for(resources, stop).choose(cells)
    assert not any(isinstance(module, LoraLinear) for module in resources.base(cells[0].spec).model.modules())


def test_what_cannot_be_measured_trains_all_the_same(
    place: Workplace, resources: Resources, always: None, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    hot = cells_of(place, 3, alpha=1e30, init="gaussian", metric="loss")
    monkeypatch.setattr("src.models.adapted.AdaptedModel.forward", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.WARNING, "src"):
        assert sizes_for(resources).choose(hot).size == 3
    assert "How fast packs are could not be measured: division by zero" in caplog.text
    assert not (resources.cache_dir / "packs").exists(), "the next start tries again"


def test_memory_that_runs_out_makes_all_packs_smaller_and_loses_no_cell(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Workplace(place.model, place.data, tmp_path / "cache")
    specs = specs_of(mine, 10, dtype="float64")
    run_study(specs, mine.settings(tmp_path / "single", pack=1))
    cells = resolve_cells(specs, mine.cache)
    resources = Resources("cpu", mine.cache)
    key = describe_packs(cells, resources)
    write_table(mine.cache / "packs", key, PackTable((Measured(1, 10, 1), Measured(8, 80, 8)), ended=True))
    tried = run_out_above(2, monkeypatch)
    outcome = run_study(specs, mine.settings(tmp_path / "packed", pack="auto"))
    assert outcome.num_failed == 0
    assert tried == [5, 3], "later packs start small"
    log = (tmp_path / "packed" / STUDY / "study.log").read_text()
    assert [line.split("WARNING ")[1] for line in log.splitlines() if "WARNING" in line] == [
        "Memory ran out with 5 cells in a pack; going on with at most 3",
        "Memory ran out with 3 cells in a pack; going on with at most 2",
    ]
    assert log.count(": completed") == 10
    remembered = read_table(mine.cache / "packs", key)
    assert remembered is not None and remembered.most == 2
    for ours, other in zip(mine.runs(specs, tmp_path / "packed"), mine.runs(specs, tmp_path / "single"), strict=True):
        assert record_of(ours)["time"]["pack_size"] <= 2
        losses = [record_of(run)["metrics"]["test"]["loss"] for run in (ours, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_packs_of_a_size_that_was_asked_for_also_become_smaller(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = run_out_above(1, monkeypatch)
    assert run_study(specs_of(place, 4), place.settings(tmp_path, pack=4)).num_failed == 0
    assert tried == [4, 2]
    assert len(list(StudyPaths.of(tmp_path, STUDY).runs.iterdir())) == 4


def test_a_cell_that_does_not_fit_alone_says_what_to_change(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_out_above(0, monkeypatch)
    specs = specs_of(place, 2)
    assert run_study(specs, place.settings(tmp_path)).num_failed == 2
    for run in place.runs(specs, tmp_path):
        error = record_of(run)["error"]
        assert error["type"] == "DoesNotFitError"
        for key in ("trainer.accumulation", "trainer.gradient_checkpointing", "trainer.batch_size"):
            assert key in error["message"]
        assert "torch.OutOfMemoryError" in error["traceback"]


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("not enough memory: you tried to allocate 1 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
    ids=str,
)  # fmt: skip
def test_errors_that_say_memory_ran_out(error: BaseException, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


def test_torch_itself_says_it_in_these_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_padding_for_others_by_hand(place: Workplace, resources: Resources) -> None:
    cells = cells_of(place, 1) + cells_of(place, 1, seed=1)
    order = DataOrder(resources.data(cells[0].spec), cells[0].spec.trainer)
    own, other = (order.lengths(seed).tolist() for seed in (0, 1))
    longest = [max(pair) for pair in zip(own, other, strict=True)]
    assert row_padding(order, cells[:1] * 3) == pytest.approx(0, abs=1e-12)
    assert row_padding(order, cells) == pytest.approx(2 * sum(longest) / (sum(own) + sum(other)) - 1)
    assert row_padding(order, cells) > 0
