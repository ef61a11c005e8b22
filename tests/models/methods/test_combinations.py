"""Any method on any architecture with any matrices and rank: counts, gradients, merging, and a base left as it was."""

from __future__ import annotations

import functools
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data import collate
from src.errors import ConfigError
from src.models.adapted import AdaptedModel
from src.models.loading import Base
from src.spec import LETTERS, SIZED, UNFROZEN, WITH_LORA, MethodSpec
from src.spec.run import MethodName
from tests.tiny import CONFIGS, shake, tiny_base, tiny_cell, tiny_data

KIN: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "DoRA": {"dora": True},
    "rsLoRA": {"rslora": True},
    "PiSSA": {"init": "pissa"},
    "all three": {"dora": True, "rslora": True, "init": "pissa"},
}
NAMES: list[MethodName] = [
    "lora", "lora", "lora_prefix", "full", "bitfit", "adapter_h", "adapter_l", "prefix", "random_subspace"
]  # fmt: skip
base_of = functools.cache(tiny_base)
DATA = tiny_data(train=16)


@st.composite
def cells(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An architecture, and a cell as tests/tiny.py takes it."""
    name = draw(st.sampled_from(NAMES))
    size = draw(st.integers(8, 20)) if name in SIZED else None
    changes: dict[str, Any] = {"method": MethodSpec(name, size), "rank": draw(st.integers(1, 6))}
    if name in WITH_LORA:
        letters = draw(st.lists(st.sampled_from(LETTERS), min_size=1, unique=True))
        changes |= {"targets": "".join(letters), "alpha": draw(st.sampled_from([1.0, 16.0]))}
        changes |= draw(st.sampled_from(list(KIN.values())))
    return draw(st.sampled_from(sorted(CONFIGS))), changes


def start(base: Base, changes: dict[str, Any]) -> AdaptedModel | None:
    """The model, or None for a letter or a method that the architecture cannot have."""
    try:
        cell = tiny_cell(DATA, base, **changes)
        return AdaptedModel(base, [cell], num_labels=DATA.num_labels, pad_id=DATA.pad_id)
    except ConfigError as error:
        assert error.key in {"lora.targets", "method.name"}
        return None


@settings(max_examples=40)
@given(cells())
def test_counts_gradients_and_merging(drawn: tuple[str, dict[str, Any]]) -> None:
    model_type, changes = drawn
    base = base_of(model_type)
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    model = start(base, changes)
    if model is None:
        return
    trained = {name: p for name, p in model.parameters(0).items() if name not in model.heads[0]}
    assert sum(p.numel() for p in trained.values()) == model.setups[0].allocation.parameters
    shake(model)
    batch = collate(DATA.train, torch.arange(6), DATA.pad_id)
    (output,) = model.forward([batch], training=True)
    output.logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    # A bias of W_k moves all scores of a row alike, so that its gradient is 0.
    if changes["method"].name not in UNFROZEN:
        assert all(p.grad is not None and p.grad.any() for p in trained.values())
    if changes["method"].name == "lora":
        model.merge()
        (merged,) = model.forward([batch], training=False)
        torch.testing.assert_close(merged.logits, output.logits, rtol=1e-6, atol=1e-6)
        model.unmerge()
    model.detach()
    after = base.model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())
