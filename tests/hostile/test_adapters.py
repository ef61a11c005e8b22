"""Adapters from elsewhere: absurd sizes, numbers and patterns, pickles and broken headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from src.adapters.peft_import import from_peft, read_peft
from src.models.bank.head import read_head, saved_pooling
from src.models.loading import Base
from tests.hostile.payloads import BROKEN_SAFETENSORS, pickled
from tests.hostile.watch import Watch, refused
from tests.tiny import tiny_base

GOOD = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "base_model_name_or_path": "x"}
MODULE = "base_model.model.encoder.layer.0.attention.self.query"
HUGE: Any = 10**9
CONFIGS: dict[str, dict[str, Any]] = {
    "rank 10**9": {"r": HUGE},
    "rank 10**400": {"r": 10**400},
    "rank 0": {"r": 0},
    "rank negative": {"r": -4},
    "rank text": {"r": "4; touch x"},
    "rank list": {"r": [2]},
    "rank null": {"r": None},
    "rank true": {"r": True},
    "rank 2.5": {"r": 2.5},
    "rank NaN": {"r": float("nan")},
    "alpha 10**400": {"lora_alpha": 10**400},
    "alpha 1e300": {"lora_alpha": 1e300},
    "alpha NaN": {"lora_alpha": float("nan")},
    "alpha infinite": {"lora_alpha": float("inf")},
    "alpha text": {"lora_alpha": "__import__('os')"},
    "alpha object": {"lora_alpha": {"_target_": "os.system"}},
    "dropout NaN": {"lora_dropout": float("nan")},
    "dropout 2": {"lora_dropout": 2},
    "dropout text": {"lora_dropout": "half"},
    "dropout list": {"lora_dropout": [0.1]},
    "pattern that takes for ever": {"alpha_pattern": {"(a+)+$": 4}},
    "nested repetition": {"alpha_pattern": {"((.*)*)*query": 4}},
    "many repetitions": {"alpha_pattern": {".*" * 30 + "x": 4}},
    "braces": {"alpha_pattern": {"(x{1,1000}){1,1000}": 4}},
    "long pattern": {"alpha_pattern": {"a" * 10_000: 4}},
    "pattern a list": {"alpha_pattern": [1]},
    "pattern text": {"alpha_pattern": "query"},
    "rank_pattern a list": {"rank_pattern": [1]},
    "pattern's alpha huge": {"alpha_pattern": {"query": 10**300}},
    "pattern's alpha text": {"alpha_pattern": {"query": "x"}},
    "another kind": {"peft_type": "../../evil"},
    "no kind": {"peft_type": None},
    "auto_mapping": {"peft_type": "LORA_EVIL", "auto_mapping": {"parent_library": "evil"}},
    "bias": {"bias": "all"},
    "replication": {"layer_replication": [[0, HUGE]]},
    "eva": {"init_lora_weights": "loftq"},
    "arrow": {"arrow_config": {"x": 1}},
    "dora without m": {"use_dora": True},
}
TEXTS = {
    "no JSON": b"import os; os.system('x')",
    "empty": b"",
    "list": b"[1, 2]",
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "huge": b'{"a": "' + b"x" * 2_000_000 + b'"}',
    "NUL": b"\0\0\0\0",
    "number of 5000 digits": b'{"r": ' + b"9" * 5000 + b"}",
}
TENSORS: dict[str, dict[str, torch.Tensor]] = {
    "none": {},
    "other names": {"os.system": torch.zeros(2, 2)},
    "A alone": {f"{MODULE}.lora_A.weight": torch.zeros(2, 16)},
    "wrong shape": {f"{MODULE}.lora_A.weight": torch.zeros(2, 15), f"{MODULE}.lora_B.weight": torch.zeros(16, 2)},
    "rank 0": {f"{MODULE}.lora_A.weight": torch.zeros(0, 16), f"{MODULE}.lora_B.weight": torch.zeros(16, 0)},
    "ranks differ": {f"{MODULE}.lora_A.weight": torch.zeros(2, 16), f"{MODULE}.lora_B.weight": torch.zeros(16, 3)},
    "NaN": {f"{MODULE}.lora_A.weight": torch.full((2, 16), torch.nan), f"{MODULE}.lora_B.weight": torch.zeros(16, 2)},
    "infinite": {
        f"{MODULE}.lora_A.weight": torch.full((2, 16), torch.inf),
        f"{MODULE}.lora_B.weight": torch.zeros(16, 2),
    },
    "whole numbers": {
        f"{MODULE}.lora_A.weight": torch.zeros(2, 16, dtype=torch.int64),
        f"{MODULE}.lora_B.weight": torch.zeros(16, 2, dtype=torch.int64),
    },
    "long name": {"a." * 5000 + "lora_A.weight": torch.zeros(2, 16)},
    "inside a module": {f"{MODULE}.evil.weight": torch.zeros(2), **{f"{MODULE}.lora_A.weight": torch.zeros(2, 16)}},
}


@pytest.fixture(scope="module")
def base() -> Base:
    return tiny_base("bert")


def write(folder: Path, config: bytes | dict[str, Any], tensors: bytes | dict[str, torch.Tensor] | None = None) -> None:
    (folder / "adapter_config.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    good = {f"{MODULE}.lora_A.weight": torch.ones(2, 16), f"{MODULE}.lora_B.weight": torch.ones(16, 2)}
    if isinstance(tensors, bytes):
        (folder / "adapter_model.safetensors").write_bytes(tensors)
    else:
        save_file(good if tensors is None else tensors, folder / "adapter_model.safetensors")


def attack(watch: Watch, base: Base) -> str:
    return refused(watch, lambda: from_peft(base.projections, read_peft(watch.folder)), 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_absurd_config_is_refused(name: str, watch: Watch, base: Base) -> None:
    write(watch.folder, {**GOOD, **CONFIGS[name]})
    attack(watch, base)


@pytest.mark.parametrize("name", TEXTS)
def test_a_config_that_is_no_json_object_is_refused(name: str, watch: Watch, base: Base) -> None:
    write(watch.folder, TEXTS[name])
    attack(watch, base)


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fit_are_refused(name: str, watch: Watch, base: Base) -> None:
    write(watch.folder, GOOD, TENSORS[name])
    attack(watch, base)


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_a_broken_or_pickled_file_is_refused(name: str, watch: Watch, base: Base) -> None:
    write(watch.folder, GOOD, BROKEN_SAFETENSORS[name](watch))
    attack(watch, base)
    (watch.folder / "head.safetensors").write_bytes(BROKEN_SAFETENSORS[name](watch))
    refused(watch, lambda: read_head(watch.folder / "head.safetensors"), 1)


def test_pickles_beside_are_not_read(watch: Watch, base: Base) -> None:
    write(watch.folder, GOOD)
    (watch.folder / "adapter_model.safetensors").unlink()
    for name in ("adapter_model.bin", "adapter_model.pt", "adapter_model.pkl"):
        (watch.folder / name).write_bytes(pickled(watch))
    assert "adapter_model.safetensors" in attack(watch, base)


@pytest.mark.parametrize("text", [b"{", b'{"pooling": "os.system"}', b'{"pooling": ["mean"]}', b"[" * 100_000, b"7"])
def test_a_hostile_head_json_is_refused(text: bytes, watch: Watch) -> None:
    (watch.folder / "head.json").write_bytes(text)
    refused(watch, lambda: saved_pooling(watch.folder), 1)


def test_the_same_adapter_without_hostile_values_is_read(watch: Watch, base: Base) -> None:
    write(watch.folder, {**GOOD, "alpha_pattern": {r"layer\.1.*\.key": 3.0}})
    with watch.on():
        loaded = from_peft(base.projections, read_peft(watch.folder))
    assert len(loaded.adapters) == 1
