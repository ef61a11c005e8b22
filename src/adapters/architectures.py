"""Projection tables: where the letters live in each architecture, as transformers 5 builds its modules.

A table maps a stack to its letters' places (src/adapters/places.py). Encoder-decoder models have the stacks encoder,
decoder (self-attention and MLP) and cross (the decoder's attention to the encoder, without an MLP); others have one
stack, without a name. In the MLP `d` is the way back and `u` the way up; where there is a gate `g`, whose output
passes the activation, `u` is what it is multiplied by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from src.spec import Letter

Places = Mapping[Letter, str]
Table = Mapping[str, Places]


def _single(places: Places) -> Table:
    return {"": places}


def _bert(query: str, key: str, value: str) -> Table:
    return _single({
        "q": f"encoder.layer.{{i}}.attention.self.{query}",
        "k": f"encoder.layer.{{i}}.attention.self.{key}",
        "v": f"encoder.layer.{{i}}.attention.self.{value}",
        "o": "encoder.layer.{i}.attention.output.dense",
        "u": "encoder.layer.{i}.intermediate.dense",
        "d": "encoder.layer.{i}.output.dense",
    })  # fmt: skip


def _attention(of: str, out: str = "out_proj") -> Places:
    return {"q": f"{of}.q_proj", "k": f"{of}.k_proj", "v": f"{of}.v_proj", "o": f"{of}.{out}"}


def _plain(layer: str, attention: str, out: str, up: str, down: str) -> Table:
    return _single({**_attention(f"{layer}.{attention}", out), "u": f"{layer}.{up}", "d": f"{layer}.{down}"})


def _by_head(layer: str, attention: str) -> Table:
    """One weight for W_q, W_k and W_v, in which the rows of one head stand together."""
    fused = f"{layer}.{attention}.query_key_value"
    return _single({
        "q": f"{fused}[0/3 per num_attention_heads]",
        "k": f"{fused}[1/3 per num_attention_heads]",
        "v": f"{fused}[2/3 per num_attention_heads]",
        "o": f"{layer}.{attention}.dense",
        "u": f"{layer}.mlp.dense_h_to_4h",
        "d": f"{layer}.mlp.dense_4h_to_h",
    })  # fmt: skip


def _bart() -> Table:
    encoder, decoder = "encoder.layers.{i}", "decoder.layers.{i}"
    return {
        "encoder": {**_attention(f"{encoder}.self_attn"), "u": f"{encoder}.fc1", "d": f"{encoder}.fc2"},
        "decoder": {**_attention(f"{decoder}.self_attn"), "u": f"{decoder}.fc1", "d": f"{decoder}.fc2"},
        "cross": _attention(f"{decoder}.encoder_attn"),
    }


def _t5(*, gated: bool) -> Table:
    def attention(of: str) -> Places:
        return {"q": f"{of}.q", "k": f"{of}.k", "v": f"{of}.v", "o": f"{of}.o"}

    def mlp(of: str) -> Places:
        up: Places = {"u": f"{of}.wi_1", "g": f"{of}.wi_0"} if gated else {"u": f"{of}.wi"}
        return {**up, "d": f"{of}.wo"}

    encoder, decoder = "encoder.block.{i}.layer", "decoder.block.{i}.layer"
    return {
        "encoder": {**attention(f"{encoder}.0.SelfAttention"), **mlp(f"{encoder}.1.DenseReluDense")},
        "decoder": {**attention(f"{decoder}.0.SelfAttention"), **mlp(f"{decoder}.2.DenseReluDense")},
        "cross": attention(f"{decoder}.1.EncDecAttention"),
    }


_BERT = _bert("query", "key", "value")
_DISTILBERT = _single({
    "q": "transformer.layer.{i}.attention.q_lin",
    "k": "transformer.layer.{i}.attention.k_lin",
    "v": "transformer.layer.{i}.attention.v_lin",
    "o": "transformer.layer.{i}.attention.out_lin",
    "u": "transformer.layer.{i}.ffn.lin1",
    "d": "transformer.layer.{i}.ffn.lin2",
})  # fmt: skip
_GPT2 = _single({
    "q": "h.{i}.attn.c_attn[0/3]",
    "k": "h.{i}.attn.c_attn[1/3]",
    "v": "h.{i}.attn.c_attn[2/3]",
    "o": "h.{i}.attn.c_proj",
    "u": "h.{i}.mlp.c_fc",
    "d": "h.{i}.mlp.c_proj",
})  # fmt: skip
_LLAMA = _single({
    **_attention("layers.{i}.self_attn", "o_proj"),
    "u": "layers.{i}.mlp.up_proj",
    "g": "layers.{i}.mlp.gate_proj",
    "d": "layers.{i}.mlp.down_proj",
})  # fmt: skip
_PHI3_SIZES = "num_attention_heads:num_key_value_heads:num_key_value_heads"
_PHI3 = _single({
    "q": f"layers.{{i}}.self_attn.qkv_proj[0/{_PHI3_SIZES}]",
    "k": f"layers.{{i}}.self_attn.qkv_proj[1/{_PHI3_SIZES}]",
    "v": f"layers.{{i}}.self_attn.qkv_proj[2/{_PHI3_SIZES}]",
    "o": "layers.{i}.self_attn.o_proj",
    "u": "layers.{i}.mlp.gate_up_proj[1/2]",
    "g": "layers.{i}.mlp.gate_up_proj[0/2]",
    "d": "layers.{i}.mlp.down_proj",
})  # fmt: skip
ARCHITECTURES: Mapping[str, Table] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "deberta-v2": _bert("query_proj", "key_proj", "value_proj"),
    "distilbert": _DISTILBERT,
    "gpt2": _GPT2,
    "opt": _plain("decoder.layers.{i}", "self_attn", "out_proj", "fc1", "fc2"),
    "gpt_neox": _by_head("layers.{i}", "attention"),
    "bloom": _by_head("h.{i}", "self_attention"),
    "phi3": _PHI3,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "t5": _t5(gated=False),
    "mt5": _t5(gated=False),
    "bart": _bart(),
    "mbart": _bart(),
    "whisper": _bart(),
    "vit": _plain("layers.{i}", "attention", "o_proj", "mlp.fc1", "mlp.fc2"),
    "clip_vision_model": _plain("encoder.layers.{i}", "self_attn", "out_proj", "mlp.fc1", "mlp.fc2"),
}
_T5_GATED = _t5(gated=True)


def table_of(config: Any) -> Table | None:
    """The table of the architecture that a model's config names (model_type), None where there is none."""
    if config.model_type in {"t5", "mt5"} and config.is_gated_act:
        return _T5_GATED
    return ARCHITECTURES.get(config.model_type)


def has_shared_rows(config: Any, letter: Letter) -> bool:
    """Whether this letter's matrix also meets rows that belong to all examples of a batch at once.

    DeBERTa sends its relative positions, one set for the whole batch, through W_q and W_k as well (He et al. 2021,
    arXiv 2006.03654, eq. 4; transformers' `share_att_key`).
    """
    if config.model_type != "deberta-v2":
        return False
    return letter in "qk" and bool(config.relative_attention) and bool(getattr(config, "share_att_key", False))
