"""Which of a model's parameters its task uses: BERT's pooler, for one, is loaded and plays no part.

Only those that take part can be trained, so only those are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from src.models.loading import Base

_FOUND: WeakKeyDictionary[nn.Module, tuple[str, ...]] = WeakKeyDictionary()


def used_names(base: Base) -> tuple[str, ...]:
    """Names, as in ``base.model.named_parameters()``, of what the way from inputs to hidden states, and from there to
    logits of a language model, depends on. Tied weights have one name.

    Args:
        base: the model or its outline.
    """
    if base.model not in _FOUND:
        used = _reached_from_hidden_states(base)
        if base.output is not None:
            used |= {id(parameter) for parameter in base.output.parameters()}
        _FOUND[base.model] = tuple(name for name, p in base.model.named_parameters() if id(p) in used)
    return _FOUND[base.model]


def _reached_from_hidden_states(base: Base) -> set[int]:
    """Identities of the backbone's parameters in the graph of a forward pass.

    The pass runs over zeros in the parameters' shapes, which take no memory, so that an outline will do.
    """
    own = dict(base.backbone.named_parameters())
    zeros = {name: torch.zeros(()).expand(p.shape).requires_grad_() for name, p in own.items()}
    buffers = {name: torch.zeros(b.shape, dtype=b.dtype) for name, b in base.backbone.named_buffers()}
    with torch.enable_grad():
        hidden = functional_call(base.backbone, {**zeros, **buffers}, (), _inputs(base)).last_hidden_state
    leaves = {id(leaf) for leaf in _leaves(hidden)}
    return {id(own[name]) for name, stand_in in zeros.items() if id(stand_in) in leaves}


def _inputs(base: Base) -> dict[str, Tensor]:
    """The shortest that the backbone takes."""
    config: Any = base.model.config
    tokens = torch.ones(1, 2, dtype=torch.int64)
    decoder = {"decoder_input_ids": tokens} if config.is_encoder_decoder else {}
    match base.model.main_input_name:
        case "pixel_values":
            return {"pixel_values": torch.zeros(1, config.num_channels, config.image_size, config.image_size)}
        case "input_features":
            return {"input_features": torch.zeros(1, config.num_mel_bins, 2 * config.max_source_positions), **decoder}
        case _:
            # Without a head that writes, only the encoder has something to do.
            written = decoder if base.output is not None else {}
            return {"input_ids": tokens, "attention_mask": tokens, **written}


def _leaves(output: Tensor) -> Iterator[Tensor]:
    """Every leaf that `output` was computed from."""
    waiting: list[Any] = [output.grad_fn]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]
