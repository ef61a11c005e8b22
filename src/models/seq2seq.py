"""Models of an encoder and a decoder, such as T5 and BART: backbone, logits, and what they can be used for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from src.adapters.projections import Projection
from src.errors import ConfigError
from src.spec import TEXT_KINDS, ModelSpec, TaskKind

_EXAMPLES = "google-t5/t5-small or facebook/bart-base"


class EncoderDecoder(nn.Module):
    """Encoder and decoder of a loaded model, without what turns hidden states into logits.

    T5's class with a vocabulary is its own backbone, so the model that transformers loads has no part that ends there;
    and for classification the decoder has nothing to do. The parts are the model's own modules, under the same names.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, *, attention_mask: Tensor, decoder_input_ids: Tensor | None = None, **inputs: Any) -> Any:
        """The decoder's output, or without decoder_input_ids the encoder's.

        Args:
            attention_mask: b x L, of the encoder's input; cross-attention sees only where it is 1. The decoder needs
                none: padding stands on the right and each position sees only those before it.
            decoder_input_ids: b x T.
            inputs: to the encoder; and past_key_values to the decoder.
        """
        past = inputs.pop("past_key_values", None)
        encoded = self.encoder(attention_mask=attention_mask, **inputs)
        if decoder_input_ids is None:
            return encoded
        return self.decoder(
            input_ids=decoder_input_ids,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past,
            use_cache=False,
        )


class TextHead(nn.Module):
    """From hidden states to logits as the model itself does it: cap(scale * h W^T + bias).

    Args:
        linear: the model's head.
        scale: of the hidden states; 1 / sqrt(d) in the first T5, whose embeddings are its head (Raffel et al. 2020,
            arXiv 1910.10683), else 1.
        bias: BART's final_logits_bias, 1 x C, or None.
        cap: c in c tanh(logits / c), with which Gemma 2 ends (Gemma Team 2024, arXiv 2408.00118); None for none.
    """

    def __init__(self, linear: nn.Module, scale: float, bias: Tensor | None, cap: float | None) -> None:
        super().__init__()
        self.linear, self.scale, self.bias, self.cap = linear, scale, bias, cap

    def forward(self, hidden: Tensor) -> Tensor:
        """m x d to m x C."""
        logits = self.linear(hidden if self.scale == 1.0 else hidden * self.scale)
        if self.bias is not None:
            logits = logits + self.bias
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def text_head(model: Any) -> TextHead:
    """The head of a model that writes text."""
    config = model.config
    scale = config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", False) else 1.0
    bias = getattr(model, "final_logits_bias", None)
    return TextHead(model.get_output_embeddings(), scale, bias, getattr(config, "final_logit_softcapping", None))


def reads_and_writes(config: Any) -> bool:
    """Whether the model has an encoder and a decoder, side by side."""
    return bool(getattr(config, "is_encoder_decoder", False))


def backbone_of(model: Any) -> nn.Module:
    """The part from inputs to hidden states."""
    if reads_and_writes(model.config) and model.main_input_name == "input_ids":
        return EncoderDecoder(model.get_encoder(), model.get_decoder())
    backbone: nn.Module = model.base_model
    return backbone


def check_kind(spec: ModelSpec, config: Any, kind: TaskKind) -> None:
    """Raises:
    ConfigError: the task needs a decoder that the model lacks, or cannot use the one that it has.
    """
    both = reads_and_writes(config)
    model = f"the {config.model_type} model {spec.path}"
    if kind == "seq2seq" and not both:
        raise ConfigError(
            "task.kind", kind, f"classification or regression (causal_lm, too, if it writes text) with {model}, which "
            f"has no encoder and decoder side by side; for seq2seq take a model such as {_EXAMPLES}"
        )  # fmt: skip
    if kind == "causal_lm" and both:
        raise ConfigError(
            "task.kind", kind, f"seq2seq, classification or regression with {model}, which has an encoder for the "
            "prompt; for causal_lm take a model such as asset:smollm2 or gpt2"
        )  # fmt: skip
    unset = [name for name in ("decoder_start_token_id", "pad_token_id") if getattr(config, name, None) is None]
    if kind == "seq2seq" and unset:
        raise ConfigError(
            "model.path", spec.path, f"for seq2seq a model whose config.json sets {' and '.join(unset)}, from which "
            f"its decoder starts, such as {_EXAMPLES}"
        )  # fmt: skip


def usable(projections: tuple[Projection, ...], kind: TaskKind, config: Any) -> tuple[Projection, ...]:
    """Those projections that take part in the task: for classification and regression not the decoder's.

    Raises:
        ConfigError: `model.projections` does not say which stack the letters are in.
    """
    if not reads_and_writes(config):
        return projections
    if unknown := [p.letter for p in projections if not p.stack]:
        raise ConfigError(
            "model.projections", unknown[0], "for a model with encoder and decoder, letters with their stack: "
            "encoder/q, decoder/q, cross/q and so on"
        )  # fmt: skip
    return projections if kind in TEXT_KINDS else tuple(p for p in projections if p.stack == "encoder")
