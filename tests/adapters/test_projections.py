"""Letters find the right matrices, by real shapes, in every architecture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src.adapters.projections import ARCHITECTURES, find_projections, select_projections, weight_shape
from src.errors import ConfigError, HarnessError
from tests.tiny import CONFIGS, tiny

LETTERS_OF = {"bert": "qkvoud", "roberta": "qkvoud", "gpt2": "qkvoud"}


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_letter_of_every_layer_is_found_once(model_type):
    found = find_projections(tiny(model_type), model_type)
    letters = LETTERS_OF.get(model_type, "qkvougd")
    assert [(p.layer, p.letter) for p in found] == [(i, letter) for i in (0, 1) for letter in letters]
    assert len({p.key for p in found}) == len(found)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_shapes_are_those_of_the_modules(model_type):
    model = tiny(model_type)
    for p in find_projections(model, model_type):
        assert weight_shape(model.get_submodule(p.module)) == (p.d_in, p.module_out)
        assert p.start + p.d_out <= p.module_out


def test_grouped_query_attention_makes_keys_and_values_smaller():
    shapes = {p.letter: (p.d_in, p.d_out) for p in find_projections(tiny("llama"), "llama")}
    assert shapes["q"] == shapes["o"] == (16, 16) and shapes["k"] == shapes["v"] == (16, 8)
    assert shapes["u"] == shapes["g"] == (16, 24) and shapes["d"] == (24, 16)


def test_gpt2_slices_are_what_the_model_splits_into_query_key_and_value():
    model = tiny("gpt2")
    attention = model.h[0].attn
    x = torch.randn(1, 3, 16, dtype=torch.float64)
    parts = dict(zip("qkv", attention.c_attn(x).split(16, dim=2), strict=True))
    for p in find_projections(model, "gpt2")[:3]:
        weight = attention.c_attn.weight.T[p.start : p.start + p.d_out]
        bias = attention.c_attn.bias[p.start : p.start + p.d_out]
        torch.testing.assert_close(nn.functional.linear(x, weight, bias), parts[p.letter])


def test_table_on_the_meta_device_equals_the_real_one():
    with torch.device("meta"):
        outline = tiny("llama")
    assert find_projections(outline, "llama") == find_projections(tiny("llama"), "llama")


@pytest.mark.parametrize(
    ("targets", "layers", "letters"),
    [("none", None, ""), ("qv", None, "qvqv"), ("mlp", "1-1", "ud"), ("all", "0-0", "qkvoud"), ("qk", "0-1", "qkqk")],
)
def test_selection_by_letters_words_and_layers(targets, layers, letters):
    found = find_projections(tiny("bert"), "bert")
    assert "".join(p.letter for p in select_projections(found, targets, layers)) == letters


@pytest.mark.parametrize(
    ("targets", "layers", "said"),
    [("qg", None, "this architecture has: qkvoud"), ("q", "1-2", "0 <= a <= b <= 1"), ("q", "1-0", "0 <= a <= b")],
)
def test_what_the_model_lacks_is_an_error_that_lists_what_there_is(targets, layers, said):
    found = find_projections(tiny("bert"), "bert")
    with pytest.raises(ConfigError, match=said):
        select_projections(found, targets, layers)


def test_unknown_architecture_and_foreign_module_tree():
    with pytest.raises(HarnessError, match="no projection table; there are tables for bert, gpt2"):
        find_projections(tiny("bert"), "mamba")
    with pytest.raises(HarnessError, match="No projection of the gpt2 table matches"):
        find_projections(tiny("bert"), "gpt2")


def test_every_table_is_exercised():
    assert set(ARCHITECTURES) - set(CONFIGS) == {"xlm-roberta"}  # shares RoBERTa's module tree
