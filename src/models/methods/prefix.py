"""Prefix tuning (Li and Liang 2021, arXiv 2101.00190): trained keys and values in front of the text's, in every layer.

Text attends to l positions that it does not contain. Here, as in P-tuning v2 (Liu et al. 2021, arXiv 2110.07602) and
peft's PREFIX_TUNING with prefix_projection off, keys and values themselves are trained, not a network that makes them;
the base sees them as a cache of earlier tokens, so the text's positions count from l. In encoder-decoder models the
prefix stands before the decoder's text, as in peft. Keys and values start from N(0, 1), as in both: on MiniLM and R8
the loss fell a little faster from there than from N(0, 0.02^2) (last ten of 60 steps: 0.28 and 0.25 against 0.32 and
0.31 at learning rates 0.01 and 0.03), although the model then starts apart from itself.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, nn
from transformers import Cache, DynamicCache, EncoderDecoderCache

from src.errors import ConfigError
from src.models.loading import Base
from src.models.methods.method import Unchanged
from src.spec.seeds import derive_seed

# Of the architectures with a projection table, those whose attention takes keys and values from a cache.
CAN = (
    "bart, bert, bloom, electra, gemma, gemma2, gemma3_text, gpt2, gpt_neox, llama, mbart, mistral, mt5, opt, phi3, "
    "qwen2, qwen3, roberta, t5, xlm-roberta"
)


@dataclass(frozen=True)
class Attention:
    """One layer's self-attention: key and value heads (with grouped queries fewer than query heads) and their width."""

    heads: int
    head_dim: int

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


class Prefix(Unchanged):
    """A prefix of l tokens.

    Args:
        length: l.
        dtype: of what is trained.
    """

    def __init__(self, base: Base, length: int, *, dtype: torch.dtype, seed: int = 0) -> None:
        weight = next(base.backbone.parameters())
        self.length, self._dtype = length, weight.dtype
        config: Any = base.model.config
        self._crossed = bool(config.is_encoder_decoder)
        self._attention = attention_layers(base)
        self._parameters: dict[str, nn.Parameter] = {}
        for layer, attention in enumerate(self._attention):
            for part in ("keys", "values"):
                generator = Generator().manual_seed(derive_seed(seed, "prefix", layer, part))
                start = torch.empty(length, attention.width).normal_(generator=generator)
                self._parameters[f"prefix.{layer}.{part}"] = nn.Parameter(start.to(weight.device, dtype))

    def parameters(self) -> dict[str, nn.Parameter]:
        """``prefix.<layer>.keys`` and ``prefix.<layer>.values``, each l x (heads * head_dim)."""
        return dict(self._parameters)

    def inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """With the prefix as a cache, the mask longer by l, and positions, where given, later by l.

        A cache that comes with the inputs and is not empty holds the prefix already: then text is being generated.
        """
        kind = "decoder_" if self._crossed else ""
        masks, positions = f"{kind}attention_mask", f"{kind}position_ids"
        cache = inputs.get("past_key_values")
        if cache is None:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if self._crossed else DynamicCache()
        if cache.get_seq_length() == 0:
            self._fill(cache, len(inputs[f"{kind}input_ids"]))
        changed = {**inputs, "past_key_values": cache}
        if (mask := inputs.get(masks)) is not None:
            changed[masks] = torch.cat([mask.new_ones(len(mask), self.length), mask], dim=1)
        if (given := inputs.get(positions)) is not None:
            changed[positions] = given + self.length
        return changed

    def _fill(self, cache: Cache, rows: int) -> None:
        """Put the prefix into an empty cache, the same for all rows: rows x heads x l x head_dim."""
        own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        for layer, attention in enumerate(self._attention):
            keys, values = (
                self._parameters[f"prefix.{layer}.{part}"]
                .to(self._dtype)
                .view(self.length, attention.heads, attention.head_dim)
                .transpose(0, 1)
                .expand(rows, -1, -1, -1)
                for part in ("keys", "values")
            )
            own.update(keys, values, layer)


def attention_layers(base: Base) -> list[Attention]:
    """Each layer's self-attention that a prefix goes before, by the real widths of W_k.

    Raises:
        ConfigError: an architecture whose attention takes no earlier keys and values, or one without W_k in its table.
    """
    config: Any = base.model.config
    reader = base.backbone.get_submodule("decoder") if config.is_encoder_decoder else base.backbone
    cached = "past_key_values" in inspect.signature(reader.forward).parameters
    if not cached or base.model.main_input_name != "input_ids":
        allowed = f"another method for a {config.model_type} model; a prefix can go before the text of {CAN}"
        raise ConfigError("method.name", "prefix", allowed)
    keys = [p for p in base.projections if p.letter == "k" and p.stack in {"", "decoder"}]
    if not keys and config.is_encoder_decoder:
        raise ConfigError("method.name", "prefix", "another method where only a model's encoder takes part")
    if not keys:
        raise ConfigError("model.projections", None, "a table with the letter k, from which a prefix takes its width")
    head_dim = _head_dim(config)
    return [Attention(p.d_out // head_dim, head_dim) for p in sorted(keys, key=lambda p: p.layer)]


def num_parameters(base: Base, length: int) -> int:
    """l (d_k + d_v) summed over layers; with full heads 2 l d for each layer of width d."""
    return length * sum(2 * attention.width for attention in attention_layers(base))


def _head_dim(config: Any) -> int:
    """Width of one head: T5 calls it d_kv; where there is no such number, the heads share the hidden width."""
    for name in ("head_dim", "d_kv"):
        given = getattr(config, name, None)
        if given is not None:
            return int(given)
    heads = config.decoder_attention_heads if config.is_encoder_decoder else config.num_attention_heads
    return int(config.hidden_size) // int(heads)
