"""Prefix tuning: peft's numbers, the text's own length, gradients, and where a prefix cannot go."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    DynamicCache,
    EncoderDecoderCache,
    PreTrainedModel,
)

from src.errors import ConfigError
from src.models.loading import Base, freeze
from src.models.methods.prefix import CAN, Prefix, attention_layers, num_parameters
from src.spec import TaskKind
from tests.tiny import tiny, tiny_base, token_ids
from tests.tiny_architectures import CASES

LENGTH = 5
ENCODERS = ("bert", "roberta", "xlm-roberta", "electra")
PAIRS = ("t5", "t5-gated", "mt5", "bart", "mbart")
TAKES = [name for name, case in CASES.items() if case.config.model_type in CAN.replace(" ", "").split(",")]
KINDS: dict[str, TaskKind] = {
    name: "seq2seq" if name in PAIRS else "classification" if name in ENCODERS else "causal_lm" for name in TAKES
}


def build(name: str) -> PreTrainedModel:
    """A random model whose attention is far from even, in float64."""
    autos = {"classification": AutoModel, "causal_lm": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}
    config = copy.deepcopy(CASES[name].config)
    if KINDS[name] == "seq2seq":
        config.decoder_start_token_id, config.pad_token_id = 0, 1
    torch.manual_seed(0)
    model = autos[KINDS[name]].from_config(config).double().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


def make(base: Base) -> Prefix:
    """A prefix of random values of the text's own size, alike in all layers (see `to_peft`)."""
    prefix = Prefix(base, LENGTH, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in prefix.parameters().items():
            first = prefix.parameters()[f"prefix.0.{name.rpartition('.')[2]}"]
            parameter.copy_(first) if parameter is not first else parameter.normal_(generator=generator)
        if not base.model.config.is_encoder_decoder:
            for parameter in prefix.parameters().values():
                parameter.normal_(generator=generator)
    return prefix


def to_peft(model: PreTrainedModel, base: Base, prefix: Prefix) -> PeftModel:
    """The same in peft, which for encoder-decoder models gives decoder layers i and i + L/2 the same part of a table
    that has room for L: hence prefixes that are alike in all layers."""
    layers = attention_layers(base)
    tasks = {"classification": "FEATURE_EXTRACTION", "causal_lm": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}
    paired = bool(model.config.is_encoder_decoder)
    config = PrefixTuningConfig(
        task_type=tasks["seq2seq" if paired else "classification" if base.output is None else "causal_lm"],
        num_virtual_tokens=LENGTH,
        token_dim=layers[0].width,
        num_attention_heads=layers[0].heads,
        num_layers=len(layers),
        num_transformer_submodules=2 if paired else 1,
    )
    peft = get_peft_model(model, config).double().eval()
    values = [prefix.parameters()[f"prefix.{i}.{part}"] for i in range(len(layers)) for part in ("keys", "values")]
    with torch.no_grad():
        peft.prompt_encoder["default"].embedding.weight.copy_(torch.stack(values, dim=1).flatten(1))
    return peft


def padded() -> tuple[Tensor, Tensor]:
    """Three rows, of which the second is shorter."""
    ids = token_ids(3, 7)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return ids, mask


@pytest.mark.parametrize("name", TAKES)
def test_it_computes_what_peft_does(name: str) -> None:
    model = build(name)
    base = freeze(copy.deepcopy(model), KINDS[name], "tiny")
    prefix = make(base)
    peft = to_peft(model, base, prefix)
    ids, mask = padded()
    inputs = {"input_ids": ids, "attention_mask": mask}
    if KINDS[name] == "seq2seq":
        inputs["decoder_input_ids"] = token_ids(3, 6, seed=1)
    hidden = base.backbone(**prefix.inputs(inputs)).last_hidden_state
    plain = base.backbone(**inputs).last_hidden_state
    theirs = peft(**inputs)
    assert hidden.shape == plain.shape, "the text keeps its length"
    seen = mask.bool() if KINDS[name] != "seq2seq" else torch.ones(3, 6, dtype=torch.bool)
    assert (hidden - plain)[seen].abs().max() > 0.01, "the text attends to the prefix"
    ours, expected = (hidden, theirs.last_hidden_state) if base.output is None else (base.output(hidden), theirs.logits)
    torch.testing.assert_close(ours[seen], expected[seen], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_each_layer_has_its_own_prefix(name: str) -> None:
    """Gradients reach all of them, and what one layer attends to is not what another does."""
    base = freeze(build(name), KINDS[name], "tiny")
    prefix = make(base)
    ids, mask = padded()
    inputs = {"input_ids": ids, "attention_mask": mask, **({"decoder_input_ids": ids} if name == "t5" else {})}
    out = base.backbone(**prefix.inputs(inputs)).last_hidden_state
    weights = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(2))
    (out * weights).sum().backward()
    gradients = [parameter.grad for parameter in prefix.parameters().values()]
    assert all(g is not None and g.any(dim=1).all() for g in gradients)
    assert len({float(g.sum()) for g in gradients if g is not None}) == len(gradients)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_gradient(name: str) -> None:
    base = freeze(build(name), KINDS[name], "tiny")
    prefix = Prefix(base, 2, dtype=torch.float64)
    ids, mask = token_ids(2, 3), torch.ones(2, 3, dtype=torch.int64)
    names = list(prefix.parameters())

    def run(*values: Tensor) -> Tensor:
        prefix._parameters = dict(zip(names, values, strict=True))  # type: ignore[assignment]
        return base.backbone(**prefix.inputs({"input_ids": ids, "attention_mask": mask})).last_hidden_state

    assert torch.autograd.gradcheck(run, tuple(prefix.parameters().values()), fast_mode=True)


@given(st.sampled_from(TAKES), st.integers(1, 30))
@settings(max_examples=15, deadline=None)
def test_count_is_the_sum_over_layers_of_the_width_of_keys_and_values(name: str, length: int) -> None:
    """With grouped queries, of the fewer key and value heads."""
    case, base = CASES[name], freeze(build(name), KINDS[name], "tiny")
    stack = case.stacks.get("decoder") or case.stacks[""]
    by_hand = length * stack.num_layers * (stack.shapes["k"][1] + stack.shapes["v"][1])
    assert num_parameters(base, length) == by_hand
    prefix = Prefix(base, length, dtype=torch.float64)
    assert sum(parameter.numel() for parameter in prefix.parameters().values()) == by_hand


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bart"])
def test_generation_goes_on_from_the_prefix(name: str) -> None:
    """Step by step with a cache, or all at once: the same greedy tokens."""
    base = freeze(build(name), KINDS[name], "tiny")
    prefix = make(base)
    ids = token_ids(2, 4)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    paired = bool(base.model.config.is_encoder_decoder)
    text = torch.zeros(2, 1, dtype=torch.int64) if paired else ids
    for _ in range(4):
        longer = {**inputs, "decoder_input_ids": text} if paired else {"input_ids": text}
        logits = base.output(base.backbone(**prefix.inputs(longer)).last_hidden_state[:, -1])  # type: ignore[misc]
        text = torch.cat([text, logits.argmax(dim=-1, keepdim=True)], dim=1)
    # transformers would make a cache of as many layers as the encoder has.
    cache = {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())} if paired else {}
    hook = base.model.register_forward_pre_hook(lambda _m, args, given: (args, prefix.inputs(given)), with_kwargs=True)
    with torch.no_grad():
        written = base.model.generate(
            **inputs,
            **cache,
            max_new_tokens=4,
            do_sample=False,
            use_cache=True,
            eos_token_id=-1,
            forced_eos_token_id=None,
        )
    hook.remove()
    assert torch.equal(written, text)


@pytest.mark.parametrize("name", sorted(set(CASES) - set(TAKES)))
def test_models_that_take_no_cache_are_refused_with_a_list_of_those_that_do(name: str) -> None:
    base = freeze(CASES[name].build(), "classification", "tiny")
    with pytest.raises(ConfigError, match=r"method\.name is 'prefix'; allowed: another method for a .* of bart, bert"):
        attention_layers(base)


def test_an_encoder_alone_of_two_stacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="another method where only a model's encoder takes part"):
        attention_layers(freeze(tiny("t5"), "classification", "tiny"))


def test_masters_are_float32_over_a_bfloat16_base_and_follow_the_seed() -> None:
    base = tiny_base("bert", dtype=torch.bfloat16)
    prefixes = [Prefix(base, 3, dtype=torch.float32, seed=seed) for seed in (4, 4, 5)]
    first, again, other = (list(prefix.parameters().values()) for prefix in prefixes)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    assert {p.dtype for p in first} == {torch.float32}
    ids = token_ids(2, 5)
    assert base.backbone(**prefixes[0].inputs({"input_ids": ids})).last_hidden_state.dtype == torch.bfloat16
