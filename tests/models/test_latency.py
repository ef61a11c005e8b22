"""Timing in turns: all variants compute what they should, and the base is left as it was."""

from __future__ import annotations

import pytest
import torch

from src.errors import HarnessError
from src.models import latency
from src.models.latency import Variants, measure
from src.models.methods.adapter_layers import AdapterLayers
from tests.tiny import tiny_base, tiny_cell, tiny_data, token_ids


@pytest.fixture
def variants() -> Variants:
    base = tiny_base("bert")
    return Variants(base, tiny_cell(tiny_data(), base, targets="qv", rank=2), bottleneck=3)


def hidden(variants: Variants) -> torch.Tensor:
    with torch.inference_mode():
        return variants.base.backbone(input_ids=token_ids(2, 7)).last_hidden_state


def test_every_variant_is_timed_in_every_round(variants: Variants) -> None:
    before = hidden(variants)
    timings = measure(variants, 2, 7, rounds=6)
    assert [timing.variant for timing in timings] == ["base", "LoRA", "LoRA merged", "Houlsby layers", "Lin layers"]
    assert {(timing.shape, len(timing.seconds)) for timing in timings} == {((2, 7), 6)}
    assert all(seconds > 0 for timing in timings for seconds in timing.seconds)
    base, lora = timings[:2]
    assert set(base.slowdowns) == {0.0}
    assert lora.slowdowns[3] == pytest.approx(100 * (lora.seconds[3] / base.seconds[3] - 1))
    assert torch.equal(hidden(variants), before)


def test_parameters_are_those_that_run_beside_the_base(variants: Variants) -> None:
    """q and v, 2 layers, rank 2, width 16; adapter layers by their formula."""
    counts = [variants.parameters(name) for name in variants.names]
    assert counts == [0, 2 * 2 * 2 * 32, 0, 4 * (2 * 16 * 3 + 3 + 16), 2 * (2 * 16 * 3 + 3 + 16 + 32)]


def test_merged_and_unmerged_lora_are_one_function_other_than_the_base(variants: Variants) -> None:
    outputs = {}
    for name in variants.names:
        with variants.active(name):
            outputs[name] = hidden(variants)
    torch.testing.assert_close(outputs["LoRA merged"], outputs["LoRA"], rtol=1e-10, atol=1e-10)
    assert not torch.allclose(outputs["LoRA"], outputs["base"])
    assert torch.equal(outputs["Houlsby layers"], outputs["base"])
    assert torch.equal(hidden(variants), outputs["base"])


def test_what_computes_something_else_is_not_timed(variants: Variants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(latency.TOLERANCE, torch.float64, 0.0)
    with pytest.raises(HarnessError, match=r"not: the outputs with LoRA merged and unmerged \(\d"):
        measure(variants, 2, 7, rounds=5)
    monkeypatch.undo()
    layers: AdapterLayers = variants.layers["Lin layers"]
    with torch.no_grad():
        next(iter(layers.layers.values())).up.bias += torch.arange(16)
    with pytest.raises(HarnessError, match="not: the outputs of the base, and with untrained Lin layers"):
        measure(variants, 2, 7, rounds=5)
