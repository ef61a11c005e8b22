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
from src.models.sample_inputs import sample_inputs

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
    inputs = sample_inputs(base, 1, 2, like=torch.empty(0))
    with torch.enable_grad():
        hidden = functional_call(base.backbone, {**zeros, **buffers}, (), inputs).last_hidden_state
    leaves = {id(leaf) for leaf in _leaves(hidden)}
    return {id(own[name]) for name, stand_in in zeros.items() if id(stand_in) in leaves}


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
