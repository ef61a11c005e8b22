"""The adapted layer in real (tiny) models: against peft, loralib and dense algebra; merging; lanes kept apart."""

from __future__ import annotations

import loralib
import peft
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from src.adapters.attach import attach, detach
from src.adapters.lora_linear import LoraLinear, Roster
from src.adapters.lowrank import LowRank
from src.adapters.projections import find_projections, select_projections
from src.adapters.rows import Rows
from src.adapters.start import FrozenWeights, make_adapters
from src.spec import LoraSpec
from tests.tiny import CONFIGS, tiny, token_ids


def adapted(model_type, targets="all", *, ranks=(3,), dropout=0.0, init="kaiming"):
    """A tiny model with one lane for each rank and random B, so that adapters matter; its roster and adapters."""
    model = tiny(model_type).requires_grad_(False)
    projections = select_projections(find_projections(model, model.config), targets)
    roster = Roster(lanes=tuple(range(len(ranks))))
    lanes = []
    for lane, rank in enumerate(ranks):
        lora = LoraSpec(targets, rank, None, alpha=6.0, dropout=dropout, init=init)
        weights = FrozenWeights(model)
        adapters = make_adapters(projections, [rank] * len(projections), lora, lane, weights, dtype=torch.float64)
        generator = torch.Generator().manual_seed(100 + lane)
        for adapter in adapters.values():
            nn.init.normal_(adapter.b, generator=generator)
        lanes.append((projections, adapters))
        roster.generators[lane] = torch.Generator().manual_seed(lane)
    attach(model, lanes, roster)
    return model, roster, lanes


def hidden(model, ids):
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


def parameters_of(lanes):
    return [p for _, adapters in lanes for a in adapters.values() for p in (a.a, a.b)]


@pytest.mark.parametrize("model_type", CONFIGS)
def test_outputs_and_gradients_equal_peft(model_type):
    """Same A and B on every unfused projection: same outputs and gradients."""
    targets = "oud" if model_type == "gpt2" else "all"
    ours, _, lanes = adapted(model_type, targets)
    projections, adapters = lanes[0]
    theirs = peft.get_peft_model(
        tiny(model_type),
        peft.LoraConfig(
            r=3, lora_alpha=6.0, target_modules=[p.module for p in projections], fan_in_fan_out=model_type == "gpt2"
        ),
        autocast_adapter_dtype=False,
    ).double()
    pairs = []
    with torch.no_grad():
        for p in projections:
            layer = theirs.get_submodule(f"base_model.model.{p.module}")
            pairs += [(adapters[p.key].a, layer.lora_A["default"].weight)]
            pairs += [(adapters[p.key].b, layer.lora_B["default"].weight)]
        for mine, peer in pairs:
            peer.copy_(mine)
    ids = token_ids(2, 7)
    mine, peer = hidden(ours, ids), hidden(theirs.base_model.model, ids)
    torch.testing.assert_close(mine, peer, rtol=1e-9, atol=1e-9)
    mine.square().sum().backward()
    peer.square().sum().backward()
    for parameter, their_parameter in pairs:
        torch.testing.assert_close(parameter.grad, their_parameter.grad, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("targets", "enabled"), [("qv", [True, False, True]), ("qkv", [True, True, True])])
def test_fused_weight_equals_loralib_merged_linear(targets, enabled):
    """GPT-2's c_attn: loralib's MergedLinear shares A's rows and B's rows by group, in the order of the slices."""
    ours, _, lanes = adapted("gpt2", targets)
    projections, adapters = lanes[0]
    layer = ours.h[0].attn.c_attn
    theirs = loralib.MergedLinear(
        16, 48, r=3, lora_alpha=6, enable_lora=enabled, fan_in_fan_out=True, merge_weights=False
    ).double()
    here = [adapters[p.key] for p in projections if p.layer == 0]
    with torch.no_grad():
        theirs.weight.copy_(layer.base.weight)
        theirs.bias.copy_(layer.base.bias)
        theirs.lora_A.copy_(torch.cat([a.a for a in here]))
        theirs.lora_B.copy_(torch.cat([a.b for a in here]))
    x = torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mine, peer = layer(x), theirs(x)
    torch.testing.assert_close(mine, peer, rtol=1e-10, atol=1e-10)
    mine.square().sum().backward()
    peer.square().sum().backward()
    torch.testing.assert_close(torch.cat([a.a.grad for a in here]), theirs.lora_A.grad)
    torch.testing.assert_close(torch.cat([a.b.grad for a in here]), theirs.lora_B.grad)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_merge_gives_the_same_outputs_and_unmerge_the_same_bits(model_type):
    model, _, _ = adapted(model_type)
    before = {name: p.clone() for name, p in model.named_parameters()}
    ids = token_ids(2, 7)
    apart = hidden(model, ids)
    layers = [m for m in model.modules() if hasattr(m, "unmerge")]
    for layer in layers:
        layer.merge(0)
        layer.merge(0)
    torch.testing.assert_close(hidden(model, ids), apart, rtol=1e-9, atol=1e-9)
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    for layer in layers:
        layer.unmerge()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert torch.equal(hidden(model, ids), apart)


def test_merged_weight_is_w0_plus_delta_on_the_named_slice_only():
    model, _, lanes = adapted("gpt2", "v")
    projection, adapters = lanes[0][0][0], lanes[0][1]
    layer = model.h[0].attn.c_attn
    before = layer.base.weight.T.clone()
    layer.merge(0)
    change = layer.base.weight.T - before
    torch.testing.assert_close(change[32:], adapters[projection.key].delta())
    assert not change[:32].any()


def test_detach_gives_the_plain_model_back():
    model, _, _ = adapted("llama")
    plain = tiny("llama")
    detach(model)
    ids = token_ids(2, 7)
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert torch.equal(hidden(model, ids), hidden(plain, ids))


@pytest.mark.parametrize("model_type", CONFIGS)
def test_lanes_share_the_base_and_nothing_else(model_type):
    """Two lanes of different rank in one pass give what each gives alone; so do their gradients."""
    ids = [token_ids(2, 7, seed=1), token_ids(2, 7, seed=2)]
    model, roster, lanes = adapted(model_type, ranks=(2, 5))
    blocks = hidden(model, torch.cat(ids)).unflatten(0, (2, 2))
    (blocks[0].square().sum() + blocks[1].square().sum()).backward()
    packed = [[p.grad for p in parameters_of([lane])] for lane in lanes]
    for lane in (0, 1):
        for p in parameters_of(lanes):
            p.grad = None
        roster.lanes = (lane,)
        alone = hidden(model, ids[lane])
        torch.testing.assert_close(alone, blocks[lane], rtol=1e-10, atol=1e-10)
        alone.square().sum().backward()
        for p, grad in zip(parameters_of([lanes[lane]]), packed[lane], strict=True):
            torch.testing.assert_close(p.grad, grad, rtol=1e-9, atol=1e-9)


def test_dropout_draws_the_same_at_every_padding():
    """A lane's masks depend on its own length, not on how far company pads its rows."""
    ids = token_ids(2, 7)
    outputs = []
    for extra in (0, 3):
        model, roster, _ = adapted("llama", ranks=(2,), dropout=0.5)
        roster.training, roster.lengths = True, (7,)
        padded = nn.functional.pad(ids, (0, extra))
        outputs.append(hidden(model, padded)[:, :7])
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)


def test_dropout_keeps_the_expectation_and_is_off_outside_training():
    model, roster, _ = adapted("llama", "q", ranks=(2,), dropout=0.3)
    layer = model.layers[0].self_attn.q_proj
    x = torch.randn(1, 4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = layer(x)
    roster.training = True
    mean = torch.stack([layer(x) for _ in range(4000)]).mean(dim=0)
    assert not torch.equal(layer(x), layer(x))
    torch.testing.assert_close(mean, plain, rtol=0, atol=0.35)
    roster.training = False
    assert torch.equal(layer(x), plain)


@pytest.mark.parametrize("texts", [8, 6, 7])
def test_dropout_where_there_are_no_positions(texts):
    """A layer that sees one vector for each text, as a pooler does, keeps or drops each of its elements."""
    roster = Roster((0,), {0: torch.Generator().manual_seed(0)}, training=True, lengths=(7,), texts=texts)
    layer = LoraLinear(nn.Linear(16, 16, dtype=torch.float64), roster)
    factors = [nn.Parameter(torch.eye(16, dtype=torch.float64)) for _ in range(2)]
    layer.add(0, LowRank(*factors, 1.0, Rows(0, 16), 0.5))
    x = torch.ones(texts, 16, dtype=torch.float64)
    added = layer(x) - F.linear(x, layer.weight, layer.bias)
    kept = added.round().unique().tolist()
    assert kept == [0.0, 2.0] and (added > 1).any(dim=1).all()
