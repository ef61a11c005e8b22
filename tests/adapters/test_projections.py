"""Finding and selecting projections: by table, by what a person names, by letters, layers and stacks."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from src.adapters.attach import attach
from src.adapters.lora_linear import Roster
from src.adapters.projections import Projection, find_projections, in_stacks, select_projections, weight_shape
from src.adapters.start import FrozenWeights, make_adapters
from src.errors import ConfigError
from src.spec import LoraSpec
from tests.tiny_architectures import CASES


def found(name: str) -> tuple[Projection, ...]:
    model = CASES[name].build()
    return find_projections(model, model.config)


def albert() -> PreTrainedModel:
    """Without a table; all its layers share one set of modules."""
    torch.manual_seed(0)
    config = transformers.AlbertConfig(
        vocab_size=100, embedding_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=66,
    )  # fmt: skip
    return transformers.AlbertModel(config).double().eval().requires_grad_(False)


def falcon() -> PreTrainedModel:
    """Without a table; two groups of one weight's rows, each with the queries of two heads, one key and one value."""
    torch.manual_seed(0)
    config = transformers.FalconConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2,
        new_decoder_architecture=True, ffn_hidden_size=24, bos_token_id=2, eos_token_id=4,
    )  # fmt: skip
    return transformers.FalconModel(config).double().eval().requires_grad_(False)


QKV = "h.{i}.self_attention.query_key_value"
FALCON = {"q": f"{QKV}[0/2:1:1 per 2]", "k": f"{QKV}[1/2:1:1 per num_kv_heads]", "v": f"{QKV}[2/2:1:1 per 2]"}


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_those_of_the_modules(name):
    model = CASES[name].build()
    for p in find_projections(model, model.config):
        assert weight_shape(model.get_submodule(p.module)) == (p.d_in, p.module_out)
        assert p.rows.index().max() < p.module_out


def test_grouped_query_attention_makes_keys_and_values_smaller():
    shapes = {p.letter: (p.d_in, p.d_out) for p in found("llama")}
    assert shapes["q"] == shapes["o"] == (16, 16) and shapes["k"] == shapes["v"] == (16, 8)
    assert shapes["u"] == shapes["g"] == (16, 24) and shapes["d"] == (24, 16)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "bloom", "phi3"])
def test_fused_letters_are_what_the_model_itself_splits_its_product_into(name):
    """The split is written here as the model's own attention writes it."""
    model, heads = CASES[name].build(), 4
    here = [p for p in find_projections(model, model.config) if p.layer == 1 and p.letter in "qkv"]
    module = model.get_submodule(here[0].module)
    x = torch.randn(1, 3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = module(x)
    match name:
        case "gpt2":
            parts = product.split(16, dim=2)
        case "gpt_neox":
            parts = [part.flatten(2) for part in product.view(1, 3, heads, 12).chunk(3, dim=-1)]
        case "bloom":
            fused = product.view(1, 3, heads, 3, 4)
            parts = [fused[..., part, :].flatten(2) for part in range(3)]
        case "phi3":
            parts = [product[..., :24], product[..., 24:36], product[..., 36:]]
    for p, part in zip(here, parts, strict=True):
        weight = p.rows.take(module.weight.T if p.transposed else module.weight, 0)
        bias = None if module.bias is None else p.rows.take(module.bias, 0)
        torch.testing.assert_close(nn.functional.linear(x, weight, bias), part)


@pytest.mark.parametrize("name", ["llama", "phi3", "bart"])
def test_table_on_the_meta_device_equals_the_real_one(name):
    with torch.device("meta"):
        outline = transformers.AutoModel.from_config(CASES[name].config)
    assert find_projections(outline, outline.config) == found(name)


@pytest.mark.parametrize(
    ("targets", "layers", "letters"),
    [("none", None, ""), ("qv", None, "qvqv"), ("mlp", "1-1", "ud"), ("all", "0-0", "qkvoud"), ("qk", "0-1", "qkqk")],
)
def test_selection_by_letters_words_and_layers(targets, layers, letters):
    assert "".join(p.letter for p in select_projections(found("bert"), targets, layers)) == letters


@pytest.mark.parametrize(
    ("targets", "layers", "stacks", "expected"),
    [
        ("q", None, None, [("encoder", 0), ("encoder", 1), *(("decoder", i) for i in range(3)),
                           *(("cross", i) for i in range(3))]),
        ("q", "1-1", None, [("encoder", 1), ("decoder", 1), ("cross", 1)]),
        ("q", "2-2", None, [("decoder", 2), ("cross", 2)]),
        ("v", "0-1", "cross", [("cross", 0), ("cross", 1)]),
        ("d", "0-0", "encoder+decoder", [("encoder", 0), ("decoder", 0)]),
        ("o", "0-0", "cross+encoder", [("encoder", 0), ("cross", 0)]),
        ("u", "1-1", "decoder+cross", [("decoder", 1)]),
        ("none", None, "cross", []),
    ],
)  # fmt: skip
def test_selection_by_stacks_counts_layers_within_each(targets, layers, stacks, expected):
    assert [(p.stack, p.layer) for p in select_projections(found("t5"), targets, layers, stacks)] == expected


def test_words_mean_the_letters_of_the_stacks_that_are_asked_for():
    letters = {p.letter for p in select_projections(found("bart"), "all", stacks="cross")}
    assert letters == set("qkvo") == {p.letter for p in in_stacks(found("bart"), "cross")}


@pytest.mark.parametrize(
    ("name", "targets", "layers", "stacks", "said"),
    [
        ("bert", "qg", None, None, "this architecture has: qkvoud"),
        ("bert", "q", "1-2", None, "0 <= a <= b <= 1"),
        ("bert", "q", "1-0", None, "0 <= a <= b"),
        ("bert", "q", None, "encoder", "lora.stacks is 'encoder'; allowed: null"),
        ("t5", "q", None, "encoder+side", "allowed: encoder, decoder, cross, several of them joined by"),
        ("t5", "u", None, "cross", "this architecture has: qkvo"),
        ("t5", "q", "2-2", "encoder", "0 <= a <= b <= 1"),
    ],
)
def test_what_the_model_lacks_is_an_error_that_lists_what_there_is(name, targets, layers, stacks, said):
    with pytest.raises(ConfigError, match=said):
        select_projections(found(name), targets, layers, stacks)


def test_an_unknown_architecture_is_an_error_that_lists_its_linear_layers_and_says_how_to_name_them():
    model = albert()
    with pytest.raises(ConfigError) as caught:
        find_projections(model, model.config)
    lines = str(caught.value).splitlines()
    assert "'albert' has no projection table; there are tables for bart, bert, bloom" in lines[0]
    assert "{q: 'encoder.albert_layer_groups.{i}.albert_layers.0.attention.query'}" in lines[0]
    assert "  encoder.albert_layer_groups.{i}.albert_layers.0.ffn 16 x 24 (1 layer)" in lines
    assert lines[-1] == "  pooler 16 x 16."
    with pytest.raises(ConfigError, match=r"\n  h\.\{i\}\.self_attention\.query_key_value 16 x 32 \(2 layers\)\n"):
        find_projections(falcon(), falcon().config)


def test_named_modules_take_the_place_of_a_missing_table_also_where_layers_share_them():
    model, of_layer = albert(), "encoder.albert_layer_groups.0.albert_layers.0"
    named = {"v": f"{of_layer}.attention.value", "u": f"{of_layer}.ffn"}
    projections = find_projections(model, model.config, named)
    assert [(p.letter, p.layer, p.d_in, p.d_out) for p in projections] == [("v", 0, 16, 16), ("u", 0, 16, 24)]


def test_named_parts_of_a_fused_weight_with_groups_are_what_the_model_splits_it_into():
    model = falcon()
    here = [p for p in find_projections(model, model.config, FALCON) if p.layer == 0]
    attention = model.h[0].self_attention
    product = attention.query_key_value(torch.randn(1, 3, 16, dtype=torch.float64))
    query, key, value = attention._split_heads(product)
    grouped = [query, *(part.view(1, 3, 2, 2, 4)[:, :, :, 0] for part in (key, value))]  # heads of a group see one key
    assert [p.letter for p in here] == ["q", "k", "v"]
    for p, part in zip(here, grouped, strict=True):
        torch.testing.assert_close(p.rows.take(product, -1), part.flatten(2))


def test_named_parts_are_adapted_exactly():
    model = falcon()
    projections = find_projections(model, model.config, FALCON)
    adapters = make_adapters(
        projections, [2] * len(projections), LoraSpec("qkv", 2, None, 4.0), 0, FrozenWeights(model), dtype=torch.float64
    )
    for adapter in adapters.values():
        nn.init.normal_(adapter.b, generator=torch.Generator().manual_seed(1))
    ids = torch.randint(5, 100, (2, 7), generator=torch.Generator().manual_seed(0))
    plain = model(ids, use_cache=False).last_hidden_state
    layers = attach(model, [(projections, adapters)], Roster(lanes=(0,)))
    apart = model(ids, use_cache=False).last_hidden_state
    for layer in layers:
        layer.merge(0)
    torch.testing.assert_close(model(ids, use_cache=False).last_hidden_state, apart, rtol=1e-9, atol=1e-9)
    assert (apart - plain).abs().amax() > 1e-3


def test_what_is_named_overrides_a_table_and_may_have_stacks():
    bert, t5 = CASES["bert"].build(), CASES["t5"].build()
    (first, second) = find_projections(bert, bert.config, {"o": "encoder.layer.{i}.output.dense"})
    assert (first.letter, first.d_in, second.layer) == ("o", 24, 1)
    places = {
        "cross/v": "decoder.block.{i}.layer.1.EncDecAttention.v",
        "encoder/v": "encoder.block.{i}.layer.0.SelfAttention.v",
    }
    named = find_projections(t5, t5.config, places)
    assert [(p.stack, p.layer) for p in named] == [("encoder", 0), ("encoder", 1), *(("cross", i) for i in range(3))]
    assert set(named) == set(select_projections(found("t5"), "v", stacks="encoder+cross"))


def test_letters_of_one_module_stand_side_by_side_also_against_the_order_of_letters():
    model = CASES["gpt2"].build()
    named = {"q": "h.{i}.attn.c_attn[0/3]", "o": "h.{i}.attn.c_proj", "g": "h.{i}.attn.c_attn[2/3]"}
    assert "".join(p.letter for p in find_projections(model, model.config, named)) == "qgoqgo"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"x": "h.{i}.mlp.c_fc"}, "model.projections is 'x'; allowed: letters of qkvougd"),
        ({"middle/q": "h.{i}.mlp.c_fc"}, "'middle/q'; allowed: letters of qkvougd .* after the stack"),
        ({"/q": "h.{i}.mlp.c_fc"}, "'/q'; allowed"),
        ({"q": "h.{i}.attn.c_proj", "encoder/k": "h.{i}.mlp.c_fc"}, "all with a stack, as in encoder/q, or all"),
        ({}, "at least one letter"),
        ({"q": "h.{i}.attention"}, r"q is 'h.{i}.attention'; allowed: one of .*:\n  h\.\{i\}\.attn\.c_attn 16 x 48"),
        ({"cross/q": "attention"}, "model.projections.cross/q is 'attention'"),
        ({"q": "h.{i}.attn.c_attn[0/5]"}, "divide the 48 output units"),
        ({"q": "h.{i}.attn.c_attn[0/3 per heads]"}, "names of such in the model's config, which heads is not"),
        ({"q": "h.{i}.attn.c_attn[3/3]"}, "a part from 0 to 2"),
        ({"q": "h.{i}.attn.c_attn [0/3]"}, r"\[part/parts\] behind it"),
        ({"q": "h.{i}.attn.c_attn[0/2]", "k": "h.{i}.attn.c_attn[1/3]"}, "'q and k'; .* both have unit 16 of h.0.attn"),
        ({"q": "h.{i}.mlp.c_fc", "u": "h.{i}.mlp.c_fc"}, "both have unit 0 of h.0.mlp.c_fc"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit_are_refused_with_what_would(named, said):
    model = CASES["gpt2"].build()
    with pytest.raises(ConfigError, match=said):
        find_projections(model, model.config, named)


def test_a_table_that_does_not_fit_the_model_is_an_error_that_lists_what_there_is():
    bert = CASES["bert"].build()
    with pytest.raises(
        ConfigError, match=r"the table of gpt2 .* it has h.{i}.attn.c_attn\[0/3\] for q.*\n  encoder.layer"
    ):
        find_projections(bert, CASES["gpt2"].config)


def test_many_linear_layers_are_not_all_listed():
    model = CASES["bert"].build()
    for index in range(50):
        setattr(model, f"extra_{index}x", nn.Linear(2, 3))
    model.config.model_type = "unheard"
    with pytest.raises(ConfigError, match=r"\n  extra_32x 2 x 3\n  \.\.\. and 17 more\.$"):
        find_projections(model, model.config)


def test_a_layer_that_is_never_called_is_no_projection():
    """torch's MultiheadAttention reads the weight of its out_proj."""
    model = CASES["bert"].build()
    model.extra = nn.MultiheadAttention(16, 4)
    with pytest.raises(ConfigError, match="one of the linear layers"):
        find_projections(model, model.config, {"o": "extra.out_proj"})


@pytest.mark.parametrize("share", [True, False])
def test_debertas_queries_and_keys_also_meet_the_relative_positions(share):
    """One set of positions for the whole batch goes through them, so lanes cannot share a pass."""
    model = CASES["deberta-v2"].build()
    model.config.share_att_key = share
    projections = find_projections(model, model.config)
    assert {p.letter for p in projections if p.shared_rows} == (set("qk") if share else set())
    assert not any(p.shared_rows for p in found("bert"))
