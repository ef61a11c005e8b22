"""Adapter layers: their place, their size and what passes through them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from src.models.adapter_layers import AdapterLayer, AdapterLayers, Design
from tests.tiny import tiny_base, token_ids


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


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(("design", "per_layer"), [("houlsby", 2), ("lin", 1)])
def test_they_stand_where_the_papers_put_them(model_type: str, design: Design, per_layer: int) -> None:
    """Two layers of width 16: after o and d, or after d alone; each 2 d m + m + d, with a LayerNorm 2 d more."""
    base = tiny_base(model_type)
    layers = AdapterLayers(base, design, 3)
    norm = 32 if design == "lin" else 0
    assert layers.num_parameters == 2 * per_layer * (2 * 16 * 3 + 3 + 16 + norm)
    ids = token_ids(2, 7)
    before = base.backbone(input_ids=ids).last_hidden_state
    passed: list[torch.Size] = []
    for layer in layers._layers:
        layer.register_forward_hook(lambda _module, _inputs, output: passed.append(output.shape))
    layers.insert()
    assert torch.equal(base.backbone(input_ids=ids).last_hidden_state, before)
    assert passed == [torch.Size([2, 7, 16])] * (2 * per_layer)
    with torch.no_grad():
        for layer in layers._layers:
            layer.up.bias += torch.arange(16) / 16
    assert not torch.allclose(base.backbone(input_ids=ids).last_hidden_state, before)
    layers.remove()
    assert torch.equal(base.backbone(input_ids=ids).last_hidden_state, before)
