"""A tiny random model of every architecture with a table, and the shapes of its matrices by hand from its config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

Shape = tuple[int, int]
HIDDEN, HEADS, KV_HEADS, INNER, WIDE_HEAD = 16, 4, 2, 24, 6
_COMMON = {
    "vocab_size": 100, "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": HEADS,
    "intermediate_size": INNER, "max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 4,
}  # fmt: skip
_GROUPED = {**_COMMON, "num_key_value_heads": KV_HEADS}
_BART = {
    "vocab_size": 100, "d_model": HIDDEN, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": HEADS,
    "decoder_attention_heads": 2, "encoder_ffn_dim": INNER, "decoder_ffn_dim": 20,
}  # fmt: skip
_T5 = {
    "vocab_size": 100, "d_model": HIDDEN, "d_kv": 5, "d_ff": INNER, "num_layers": 2, "num_decoder_layers": 3,
    "num_heads": HEADS, "decoder_start_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """Matrices of a stack, (d_in, d_out) by letter in the order qkvougd, alike in all its layers."""

    num_layers: int
    shapes: Mapping[str, Shape]


@dataclass(frozen=True)
class Case:
    """An architecture.

    Attributes:
        stacks: by name, in order.
        fused: output units, in the letter's own order, of letters that share a weight.
    """

    config: PreTrainedConfig
    stacks: Mapping[str, Stack]
    fused: Mapping[str, list[int]] = field(default_factory=dict)

    @property
    def letters(self) -> str:
        return "".join(letter for letter in "qkvougd" if any(letter in s.shapes for s in self.stacks.values()))

    def build(self, seed: int = 0, **options: Any) -> PreTrainedModel:
        """The backbone with random weights in float64, frozen, in evaluation mode."""
        torch.manual_seed(seed)
        model = AutoModel.from_config(copy.deepcopy(self.config), **options).double().eval().requires_grad_(False)
        model.config.use_cache = False
        return model

    def inputs(self, rows: int = 2) -> dict[str, torch.Tensor]:
        """What the backbone takes: pictures, sound or tokens, and tokens for a decoder."""
        generator = torch.Generator().manual_seed(0)
        ids, to_write = (torch.randint(5, 100, (rows, n), generator=generator) for n in (7, 5))
        match self.config.model_type:
            case "vit" | "clip_vision_model":
                return {"pixel_values": torch.randn(rows, 3, 8, 8, dtype=torch.float64, generator=generator)}
            case "whisper":
                sound = torch.randn(rows, 4, 12, dtype=torch.float64, generator=generator)
                return {"input_features": sound, "decoder_input_ids": to_write}
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {**given, "decoder_input_ids": to_write} if "cross" in self.stacks else given

    def __call__(self, model: PreTrainedModel) -> torch.Tensor:
        return model(**self.inputs()).last_hidden_state


def _attention(query: int = HIDDEN, key: int = HIDDEN) -> dict[str, Shape]:
    return {"q": (HIDDEN, query), "k": (HIDDEN, key), "v": (HIDDEN, key), "o": (query, HIDDEN)}


def _mlp(inner: int = INNER, *, gated: bool = False) -> dict[str, Shape]:
    return dict.fromkeys("ug" if gated else "u", (HIDDEN, inner)) | {"d": (inner, HIDDEN)}


def _plain(config: PreTrainedConfig, inner: int = INNER, fused: Mapping[str, list[int]] | None = None) -> Case:
    return Case(config, {"": Stack(2, _attention() | _mlp(inner))}, fused or {})


def _grouped(config: PreTrainedConfig, head: int = WIDE_HEAD, fused: Mapping[str, list[int]] | None = None) -> Case:
    return Case(config, {"": Stack(2, _attention(HEADS * head, KV_HEADS * head) | _mlp(gated=True))}, fused or {})


def _bart(config: PreTrainedConfig) -> Case:
    encoder, decoder = Stack(2, _attention() | _mlp()), Stack(3, _attention() | _mlp(20))
    return Case(config, {"encoder": encoder, "decoder": decoder, "cross": Stack(3, _attention())})


def _t5(config: PreTrainedConfig, *, gated: bool) -> Case:
    attention, mlp = _attention(HEADS * 5, HEADS * 5), _mlp(gated=gated)
    return Case(
        config,
        {"encoder": Stack(2, attention | mlp), "decoder": Stack(3, attention | mlp), "cross": Stack(3, attention)},
    )


def _by_head(part: int) -> list[int]:
    """Heads of 4 units: q, k and v of the first head, then of the second ..."""
    return [12 * head + 4 * part + unit for head in range(HEADS) for unit in range(4)]


_QKV_BY_HEAD = {letter: _by_head(part) for part, letter in enumerate("qkv")}
_QKV_IN_THIRDS = {"q": list(range(16)), "k": list(range(16, 32)), "v": list(range(32, 48))}
_PHI3_UNITS = {
    "q": list(range(24)), "k": list(range(24, 36)), "v": list(range(36, 48)),
    "g": list(range(24)), "u": list(range(24, 48)),
}  # fmt: skip
_DEBERTA = {"relative_attention": True, "position_buckets": 4, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}
_GPT2 = {
    "vocab_size": 100, "n_embd": HIDDEN, "n_layer": 2, "n_head": HEADS, "n_inner": INNER, "n_positions": 66,
    "bos_token_id": 2, "eos_token_id": 4,
}  # fmt: skip
_OPT = {"ffn_dim": INNER, "word_embed_proj_dim": 8}
_DISTILBERT = {"vocab_size": 100, "dim": HIDDEN, "n_layers": 2, "n_heads": HEADS, "hidden_dim": INNER}
_SOUND = {"num_mel_bins": 4, "max_source_positions": 6, "max_target_positions": 20, "pad_token_id": 1}
_PICTURE = {"image_size": 8, "patch_size": 4}
_WIDE = {**_GROUPED, "head_dim": WIDE_HEAD}
CASES: dict[str, Case] = {
    "bert": _plain(transformers.BertConfig(**_COMMON)),
    "roberta": _plain(transformers.RobertaConfig(**_COMMON)),
    "xlm-roberta": _plain(transformers.XLMRobertaConfig(**_COMMON)),
    "electra": _plain(transformers.ElectraConfig(**_COMMON, embedding_size=8)),
    "deberta-v2": _plain(transformers.DebertaV2Config(**_COMMON, **_DEBERTA)),
    "distilbert": _plain(transformers.DistilBertConfig(**_DISTILBERT)),
    "gpt2": _plain(transformers.GPT2Config(**_GPT2), fused=_QKV_IN_THIRDS),
    "opt": _plain(transformers.OPTConfig(**_COMMON, **_OPT)),
    "gpt_neox": _plain(transformers.GPTNeoXConfig(**_COMMON), fused=_QKV_BY_HEAD),
    "bloom": _plain(
        transformers.BloomConfig(vocab_size=100, hidden_size=HIDDEN, n_layer=2, n_head=HEADS), 64, _QKV_BY_HEAD
    ),
    "phi3": _grouped(transformers.Phi3Config(**_WIDE), fused=_PHI3_UNITS),
    "llama": _grouped(transformers.LlamaConfig(**_GROUPED), 4),
    "mistral": _grouped(transformers.MistralConfig(**_WIDE)),
    "qwen2": _grouped(transformers.Qwen2Config(**_GROUPED), 4),
    "qwen3": _grouped(transformers.Qwen3Config(**_WIDE)),
    "gemma": _grouped(transformers.GemmaConfig(**_WIDE)),
    "gemma2": _grouped(transformers.Gemma2Config(**_WIDE)),
    "gemma3_text": _grouped(transformers.Gemma3TextConfig(**_WIDE)),
    "t5": _t5(transformers.T5Config(**_T5, feed_forward_proj="relu"), gated=False),
    "t5-gated": _t5(transformers.T5Config(**_T5, feed_forward_proj="gated-gelu"), gated=True),
    "mt5": _t5(transformers.MT5Config(**_T5), gated=True),
    "bart": _bart(transformers.BartConfig(**_BART, max_position_embeddings=66)),
    "mbart": _bart(transformers.MBartConfig(**_BART, max_position_embeddings=66)),
    "whisper": _bart(transformers.WhisperConfig(**_BART, **_SOUND)),
    "vit": _plain(transformers.ViTConfig(**_COMMON, **_PICTURE)),
    "clip_vision_model": _plain(transformers.CLIPVisionConfig(**_COMMON, **_PICTURE)),
}
