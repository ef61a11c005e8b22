"""Adapter layers: their place, their size, their start and what passes through them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from src.errors import ConfigError
from src.models.loading import freeze
from src.models.methods.adapter_layers import AdapterLayer, AdapterLayers, Design, num_parameters
from tests.tiny import tiny_base, token_ids
from tests.tiny_architectures import CASES


@pytest.mark.parametrize("norm", [False, True])
def test_a_layer_is_the_sum_that_its_design_says(norm: bool) -> None:
    layer = AdapterLayer(6, 3, norm=norm).double()
    h = torch.randn(4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(h), h), "at the start nothing changes"
    with torch.no_grad():
        layer.up.weight.normal_(generator=torch.Generator().manual_seed(1))
        layer.up.bias.fill_(0.5)
    inner = F.layer_norm(h, (6,)) if norm else h
    hidden = (inner @ layer.down.weight.T + layer.down.bias).clamp(min=0)
    torch.testing.assert_close(layer(h), h + hidden @ layer.up.weight.T + 0.5)


@pytest.mark.parametrize("norm", [False, True])
def test_gradient(norm: bool) -> None:
    layer = AdapterLayer(4, 3, norm=norm).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=generator)
    h = torch.randn(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(h: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (h,))

    assert torch.autograd.gradcheck(run, (h, *values))


def test_start_is_houlsbys_and_each_layers_own() -> None:
    """N(0, 0.01^2) cut at two standard deviations, whose own deviation is 0.88 of that."""
    down = AdapterLayer(100, 64, norm=False, seed=1).down.weight
    assert down.abs().max() <= 0.02
    assert float(down.detach().std()) == pytest.approx(0.0088, rel=0.05)
    base = tiny_base("bert")
    again = [AdapterLayers(base, "adapter_h", 3, dtype=torch.float64, seed=5).parameters() for _ in range(2)]
    assert all(torch.equal(value, again[1][name]) for name, value in again[0].items())
    downs = [value for name, value in again[0].items() if name.endswith("down.weight")]
    assert not torch.equal(downs[0], downs[1])
    other = AdapterLayers(base, "adapter_h", 3, dtype=torch.float64, seed=6).parameters()
    assert not torch.equal(downs[0], next(iter(other.values())))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("design", "letters"), [("adapter_h", "od"), ("adapter_l", "d")])
def test_they_stand_where_the_papers_put_them(name: str, design: Design, letters: str) -> None:
    """Layers of width 16 after o and d, or after d alone; each 2 d m + m + d, with a LayerNorm 2 d more."""
    case = CASES[name]
    base = freeze(case.build(), "classification", "tiny")
    stacks = {"encoder": case.stacks["encoder"]} if "encoder" in case.stacks else case.stacks
    inputs = case.inputs()
    if case.config.model_type != "whisper":
        inputs.pop("decoder_input_ids", None)
    count = sum(stack.num_layers for stack in stacks.values() for letter in letters if letter in stack.shapes)
    layers = AdapterLayers(base, design, 3, dtype=torch.float64)
    expected = count * (2 * 16 * 3 + 3 + 16 + (32 if design == "adapter_l" else 0))
    assert num_parameters(base, design, 3) == expected
    assert sum(p.numel() for p in layers.parameters().values()) == expected
    before = base.backbone(**inputs).last_hidden_state
    passed: list[int] = []
    for layer in layers.layers.values():
        layer.register_forward_hook(lambda _module, _inputs, output: passed.append(output.shape[-1]))
    layers.attach()
    assert torch.equal(base.backbone(**inputs).last_hidden_state, before)
    assert passed == [16] * count
    with torch.no_grad():
        for layer in layers.layers.values():
            layer.up.weight.normal_()
    changed = base.backbone(**inputs).last_hidden_state
    changed.sum().backward()
    assert not torch.allclose(changed, before)
    assert all(p.grad is not None for p in layers.parameters().values())
    layers.detach()
    assert torch.equal(base.backbone(**inputs).last_hidden_state, before)


def test_both_stacks_and_cross_attention_of_a_model_that_reads_and_writes() -> None:
    """T5 with 2 and 3 layers: o and d in both, o after the attention to the encoder."""
    base = tiny_base("t5", "seq2seq")
    assert len(AdapterLayers(base, "adapter_h", 2, dtype=torch.float64).layers) == 2 * 2 + 3 * 3
    assert len(AdapterLayers(base, "adapter_l", 2, dtype=torch.float64).layers) == 2 + 3


def test_masters_are_float32_over_a_bfloat16_base() -> None:
    base = tiny_base("bert", dtype=torch.bfloat16)
    layers = AdapterLayers(base, "adapter_l", 3, dtype=torch.float32)
    before = base.backbone(input_ids=token_ids(2, 5)).last_hidden_state
    layers.attach()
    after = base.backbone(input_ids=token_ids(2, 5)).last_hidden_state
    assert {p.dtype for p in layers.parameters().values()} == {torch.float32}
    assert after.dtype == torch.bfloat16
    assert torch.equal(after, before)


def test_a_model_whose_projections_lack_the_place_is_refused() -> None:
    base = tiny_base("bert")
    base = dataclasses.replace(base, projections=tuple(p for p in base.projections if p.letter in "qk"))
    with pytest.raises(ConfigError, match=r"method\.name is 'adapter_h'; allowed: methods that need no o and d among"):
        AdapterLayers(base, "adapter_h", 3, dtype=torch.float64)
