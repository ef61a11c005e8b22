"""What records say of memory: every part measured from tensors and files, None where nothing was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from src.experiment.study import run_study
from src.records import COUNTED, MEMORY, read_record
from src.spec import MethodSpec, RunSpec, normalise
from tests.experiment.workplace import Workplace, build, record_of, results


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def short(place: Workplace, targets: str = "qv", rank: int = 2, **changes: Any) -> RunSpec:
    return place.spec(targets, rank, max_steps=3, eval_every=3, **changes)


def with_method(spec: RunSpec, name: Any, size: int | None = None) -> RunSpec:
    return normalise(dataclasses.replace(spec, method=MethodSpec(name, size)))


@pytest.fixture(scope="module")
def memories(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Records of one study by what was trained, each with its folder's name."""
    lora = short(place, "qv", 2)
    specs = {
        "lora": lora,
        "wide": short(place, "all", 8),
        "none": short(place, "none"),
        "full": with_method(lora, "full"),
        "bitfit": with_method(lora, "bitfit"),
        "adapter_h": with_method(lora, "adapter_h", 4),
        "pissa": short(place, "qv", 2, init="pissa"),
        "random_subspace": with_method(lora, "random_subspace", 32),
    }
    output = tmp_path_factory.mktemp("outputs")
    assert run_study(list(specs.values()), place.settings(output)).num_failed == 0
    return {name: {**record_of(run), "root": run.root} for name, run in zip(
        specs, place.runs(list(specs.values()), output), strict=True
    )}  # fmt: skip


@pytest.mark.parametrize("name", ["lora", "wide", "none", "full", "bitfit", "adapter_h", "pissa", "random_subspace"])
def test_a_completed_run_has_every_part(memories: dict[str, dict[str, Any]], name: str) -> None:
    record = memories[name]
    memory, params = record["memory"], record["params"]
    assert set(memory) == set(MEMORY)
    assert all(memory[key] > 0 for key in MEMORY if key != "frozen_weight_bytes")
    trained = params["adapter"] + params["head"]
    assert memory["trained_weight_bytes"] == memory["gradient_bytes"] == 4 * trained
    steps = memory["optimizer_bytes"] - 8 * trained
    assert 0 < steps <= 4 * trained and steps % 4 == 0
    # Files hold the numbers and a header; a training checkpoint holds them twice (now and best), and both moments.
    assert 4 * trained < memory["checkpoint_bytes"] < 4 * trained + 12_000
    assert memory["training_checkpoint_bytes"] > 4 * 4 * trained


def test_what_is_saved_is_what_lies_there(memories: dict[str, dict[str, Any]]) -> None:
    for record in memories.values():
        apart = {"metrics.jsonl", "predictions.safetensors", "record.json"}
        left = [path for path in record["root"].rglob("*") if path.is_file() and path.name not in apart]
        assert record["memory"]["checkpoint_bytes"] == sum(path.stat().st_size for path in left)


def test_full_fine_tuning_keeps_no_frozen_copy_and_bitfit_no_second_biases(memories: dict[str, dict[str, Any]]) -> None:
    for name in ("lora", "none", "adapter_h"):
        record = memories[name]
        assert record["memory"]["frozen_weight_bytes"] == 4 * record["params"]["base"]
    for name in ("full", "bitfit"):
        record = memories[name]
        assert record["memory"]["frozen_weight_bytes"] == 4 * (record["params"]["base"] - record["params"]["adapter"])


def test_what_a_method_holds_besides_the_base_counts_too(memories: dict[str, dict[str, Any]]) -> None:
    pissa, subspace = memories["pissa"], memories["random_subspace"]
    # The start that is taken off W0 is as large as the adapters; P has a Gaussian and a sign for each number.
    start = pissa["memory"]["frozen_weight_bytes"] - 4 * pissa["params"]["base"]
    assert start == 4 * pissa["params"]["adapter"]
    matrix = subspace["memory"]["frozen_weight_bytes"] - 4 * subspace["params"]["base"]
    assert matrix > 5 * memories["full"]["params"]["adapter"]


def test_lora_needs_less_than_full_fine_tuning(memories: dict[str, dict[str, Any]]) -> None:
    total = {name: sum(record["memory"][key] for key in COUNTED) for name, record in memories.items()}
    assert total["none"] < total["lora"] < total["wide"] < total["full"]
    lora, full = memories["lora"]["memory"], memories["full"]["memory"]
    assert lora["optimizer_bytes"] < full["optimizer_bytes"] / 10
    assert lora["checkpoint_bytes"] < full["checkpoint_bytes"] / 5
    assert lora["activation_bytes"] < full["activation_bytes"]


def test_company_does_not_change_what_is_counted(place: Workplace, tmp_path: Path) -> None:
    specs = [short(place, "qv", 2, dropout=0.1), short(place, "all", 3)]
    counts = []
    for name, size in (("packed", 8), ("alone", 1)):
        run_study(specs, place.settings(tmp_path / name, pack=size))
        records = [record_of(run) for run in place.runs(specs, tmp_path / name)]
        counts.append([[record["memory"][key] for key in COUNTED] for record in records])
    assert counts[0] == counts[1]


def test_counting_leaves_no_trace_in_the_results(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [short(place, "qv", 2, dropout=0.1), short(place, "all", 3), with_method(short(place, "qv", 2), "full")]
    run_study(specs, place.settings(tmp_path / "with"))
    for name in ("measure_forward", "measure_gradients", "measure_optimizer"):
        monkeypatch.setattr(f"src.training.loop.{name}", lambda *_: None)
    run_study(specs, place.settings(tmp_path / "without"))
    assert results(place.runs(specs, tmp_path / "with")) == results(place.runs(specs, tmp_path / "without"))
    for run in place.runs(specs, tmp_path / "without"):
        memory = read_record(run.record).memory
        assert [memory[key] for key in COUNTED] == [None] * 5
        assert memory["checkpoint_bytes"] is not None


def test_a_run_that_fails_before_its_first_step_has_nothing_measured(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("too early")

    monkeypatch.setattr("src.experiment.pack.train_pack", fail)
    specs = [short(place)]
    assert run_study(specs, place.settings(tmp_path)).num_failed == 1
    (run,) = place.runs(specs, tmp_path)
    assert read_record(run.record).memory == dict.fromkeys(MEMORY)
