"""How adapters start: drawn, or from W0; and that DoRA, rsLoRA and PiSSA are peft's."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from src.adapters.attach import attach
from src.adapters.lora_linear import Roster
from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection, find_projections, select_projections
from src.adapters.rows import Rows
from src.adapters.start import FrozenWeights, make_adapters, starting_a, weight_of, write_weight
from src.spec import LoraSpec
from tests.tiny import CONFIGS, tiny, token_ids

VARIANTS: dict[str, dict[str, Any]] = {
    "dora": {"dora": True},
    "rslora": {"rslora": True},
    "pissa": {"init": "pissa"},
    "dora and rslora": {"dora": True, "rslora": True},
    "dora and pissa": {"dora": True, "init": "pissa"},
}
PEFTS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "dora and rslora": {"use_dora": True, "use_rslora": True},
}


def hidden(model: Any, ids: Tensor) -> Tensor:
    output: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return output


def make(model: Any, projections: Any, lora: LoraSpec, rank: int = 3, seed: int = 7) -> dict[str, LowRank]:
    return make_adapters(projections, [rank] * len(projections), lora, seed, FrozenWeights(model), dtype=torch.float64)


def shaken(adapters: dict[str, LowRank]) -> dict[str, LowRank]:
    """After some training: nothing is as it was at the start."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for adapter in adapters.values():
            for factor in (adapter.a, adapter.b, adapter.magnitude):
                if factor is not None:
                    factor.add_(0.1 * torch.randn(factor.shape, generator=draw, dtype=factor.dtype))
    return adapters


@pytest.mark.parametrize("lora", [{}, {"init": "gaussian"}, *VARIANTS.values()], ids=str)
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_the_start_changes_nothing(model_type: str, lora: dict[str, Any]) -> None:
    model = tiny(model_type).requires_grad_(False)
    projections = find_projections(model, model.config)
    adapters = make(model, projections, LoraSpec("all", 3, None, 8.0, **lora))
    ids = token_ids(2, 7)
    before = hidden(model, ids)
    attach(model, [(projections, adapters)], Roster(lanes=(0,)))
    torch.testing.assert_close(hidden(model, ids), before, rtol=1e-9, atol=1e-9)


def test_every_projection_draws_its_own_a_whatever_else_is_adapted() -> None:
    model = tiny("bert").requires_grad_(False)
    projections, lora = find_projections(model, model.config), LoraSpec("all", 3, None, 8.0)
    adapters = make(model, projections, lora)
    starts = [adapter.a for adapter in adapters.values()]
    assert all(not torch.equal(starts[0], other) for other in starts[1:] if other.shape == starts[0].shape)
    assert torch.equal(make(model, projections[:1], lora)[projections[0].key].a, starts[0])
    drawn = starting_a(projections, [3] * len(projections), lora, 7)
    assert all(torch.equal(drawn[key].double(), adapter.a) for key, adapter in adapters.items())


@pytest.mark.parametrize(("init", "std"), [("gaussian", 1 / 64**0.5), ("kaiming", 1 / (3 * 64) ** 0.5)])
def test_the_start_of_a_has_the_documented_spread(init: Any, std: float) -> None:
    projection = Projection("q", 0, "x", 64, Rows(0, 64), 64, transposed=False)
    made = starting_a([projection], [64], LoraSpec("q", 64, None, 64.0, init=init), 0)
    assert made["x.q"].std().item() == pytest.approx(std, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["bert", "gpt2", "llama"]), st.integers(1, 8), st.sampled_from([1.0, 16.0]), st.booleans())
def test_pissa_takes_the_top_triplets_out_of_the_frozen_weight(
    model_type: str, rank: int, alpha: float, rslora: bool
) -> None:
    """scale * B A is the best approximation of rank r (Eckart and Young), and what is frozen is the rest."""
    model = tiny(model_type).requires_grad_(False)
    projections = find_projections(model, model.config)
    adapters = make(model, projections, LoraSpec("all", rank, None, alpha, init="pissa", rslora=rslora), rank)
    for p in projections:
        adapter, weight = adapters[p.key], weight_of(model, p)
        u, s, vt = torch.linalg.svd(weight, full_matrices=False)
        top = (u[:, :rank] * s[:rank]) @ vt[:rank]
        torch.testing.assert_close(adapter.scale * adapter.b @ adapter.a, top, rtol=1e-9, atol=1e-9)
        assert adapter.origin is not None and not adapter.origin.a.requires_grad
        torch.testing.assert_close(adapter.origin.delta(), -top, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(adapter.delta(), torch.zeros_like(weight), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_rslora_divides_by_the_root_of_the_rank(rank: int) -> None:
    model = tiny("bert").requires_grad_(False)
    projections = select_projections(find_projections(model, model.config), "q")
    adapters = make(model, projections, LoraSpec("q", rank, None, 8.0, rslora=True), rank)
    assert {adapter.scale for adapter in adapters.values()} == {8.0 / rank**0.5}


@pytest.mark.parametrize("model_type", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("variant", PEFTS)
def test_outputs_and_gradients_are_pefts(model_type: str, variant: str) -> None:
    """The same values of A, B and m on every unfused projection, some steps after the start."""
    targets = "oud" if model_type == "gpt2" else "all"
    model, ids = tiny(model_type).requires_grad_(False), token_ids(3, 7)
    projections = select_projections(find_projections(model, model.config), targets)
    adapters = shaken(make(model, projections, LoraSpec(targets, 3, None, 6.0, **VARIANTS[variant])))
    config = peft.LoraConfig(
        r=3, lora_alpha=6.0, target_modules=[p.module for p in projections], fan_in_fan_out=model_type == "gpt2",
        **PEFTS[variant],
    )  # fmt: skip
    # peft's PiSSA wants a model in float32.
    plain = tiny(model_type).float() if variant == "pissa" else tiny(model_type)
    theirs = peft.get_peft_model(plain, config, autocast_adapter_dtype=False).double()
    pairs = []
    for p in projections:
        layer = theirs.get_submodule(f"base_model.model.{p.module}")
        mine, other = adapters[p.key], [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
        own = [mine.a, mine.b]
        if mine.magnitude is not None:
            own, other = [*own, mine.magnitude], [*other, layer.lora_magnitude_vector["default"].weight]
        for ours, yours in zip(own, other, strict=True):
            yours.data.copy_(ours.data)
            pairs.append((ours, yours))
        if mine.origin is not None:
            rest = weight_of(model, p) + mine.origin.delta()
            kept = layer.base_layer.weight
            kept = kept.T if p.transposed else kept
            torch.testing.assert_close(kept, rest, rtol=1e-5, atol=1e-5)  # peft computes its own start in float32
            kept.data.copy_(rest)
    attach(model, [(projections, adapters)], Roster(lanes=(0,)))
    a, b = hidden(model, ids), hidden(theirs, ids)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    probe = torch.randn(a.shape, generator=torch.Generator().manual_seed(3), dtype=a.dtype)
    (a * probe).sum().backward()
    (b * probe).sum().backward()
    for ours, yours in pairs:
        torch.testing.assert_close(ours.grad, yours.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_merged_equals_unmerged(model_type: str, variant: str) -> None:
    model, ids = tiny(model_type).requires_grad_(False), token_ids(2, 5)
    projections = find_projections(model, model.config)
    adapters = shaken(make(model, projections, LoraSpec("all", 3, None, 6.0, **VARIANTS[variant])))
    layers = attach(model, [(projections, adapters)], Roster(lanes=(0,)))
    apart, frozen = hidden(model, ids), [layer.weight.clone() for layer in layers]
    for layer in layers:
        layer.merge(0)
    torch.testing.assert_close(hidden(model, ids), apart, rtol=1e-9, atol=1e-9)
    for layer, weight in zip(layers, frozen, strict=True):
        layer.unmerge()
        assert torch.equal(layer.weight, weight)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_weight_can_be_read_and_written_by_letter(model_type: str) -> None:
    model = tiny(model_type).requires_grad_(False)
    for p in find_projections(model, model.config):
        new = torch.randn(p.d_out, p.d_in, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        write_weight(model, p, new)
        assert torch.equal(weight_of(model, p), new)
