"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): layers keep their input only, and run again in backward.

Around torch.utils.checkpoint stands what it does not know of: lanes' own generators of dropout masks, values that
stand in for the base's parameters (src/models/methods/method.py), and caches of keys and values, which a layer fills.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, EncoderDecoderCache

from src.adapters.lora_linear import Roster
from src.models.attention import active_layout, packed_attention
from src.models.layers import find_layers
from src.models.loading import Base
from src.models.methods.method import with_weights
from src.spec import TrainerSpec

logger = logging.getLogger(__name__)
Forward = Callable[..., Any]


class Recomputation:
    """Layers that run again in the backward pass; outputs and gradients are the same to the last bit.

    Args:
        base: whose layers run again.
        roster: of the adapters in it.
        trainer: asks for it or does not; then nothing happens.
    """

    def __init__(self, base: Base, roster: Roster, trainer: TrainerSpec) -> None:
        stacks = find_layers(base.backbone, base.projections) if trainer.gradient_checkpointing else {}
        if stacks is None:
            logger.warning("trainer.gradient_checkpointing has no effect: this model's layers cannot be told apart")
        self._layers = [layer for layers in (stacks or {}).values() for layer in layers]
        self._own = {id(parameter) for layer in self._layers for parameter in layer.parameters()}
        self._roster, self._config = roster, base.model.config

    def attach(self) -> None:
        """From now on passes that are differentiated keep no more of a layer than its inputs."""
        for layer in self._layers:
            vars(layer)["forward"] = functools.partial(self._run, layer, layer.forward)

    def detach(self) -> None:
        """Undo `attach`."""
        for layer in self._layers:
            vars(layer).pop("forward", None)

    def _run(self, layer: nn.Module, forward: Forward, *inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        weights = {name: p for name, p in layer.named_parameters() if id(p) not in self._own}
        again = _Again(self._roster, self._config)

        def run(*inputs: Any, **named: Any) -> Any:
            work = functools.partial(forward, *map(_as_given, inputs), **{k: _as_given(v) for k, v in named.items()})
            return with_weights(layer, weights, work) if again.active else work()

        contexts = (contextlib.nullcontext(), again)
        # No layer draws from torch's own generator, as the base's dropout is off.
        return checkpoint(
            run, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: contexts, **named
        )


class _Again:
    """Puts roster and attention, while a layer runs again, to where they were when it ran first; then back.

    Attributes:
        active: whether the layer runs again.
    """

    def __init__(self, roster: Roster, config: Any) -> None:
        self._roster, self.active = roster, False
        self._config, self._layout = config, active_layout()
        self._fields = _fields(roster)
        self._draws = _draws(roster, roster.lanes if roster.training else ())

    def __enter__(self) -> None:
        self._now = _fields(self._roster), _draws(self._roster, tuple(self._draws))
        _restore(self._roster, self._fields, self._draws)
        self._attention = packed_attention(self._config, self._layout)
        self._attention.__enter__()
        self.active = True

    def __exit__(self, *_: object) -> None:
        self.active = False
        self._attention.__exit__(None, None, None)
        _restore(self._roster, *self._now)


def _fields(roster: Roster) -> dict[str, Any]:
    return {field.name: getattr(roster, field.name) for field in dataclasses.fields(roster)}


def _draws(roster: Roster, lanes: Sequence[int]) -> dict[int, Tensor]:
    """State of the lanes' generators."""
    return {lane: roster.generators[lane].get_state() for lane in lanes}


def _restore(roster: Roster, fields: dict[str, Any], draws: dict[int, Tensor]) -> None:
    for name, value in fields.items():
        setattr(roster, name, value)
    for lane, state in draws.items():
        roster.generators[lane].set_state(state)


def _as_given(value: Any) -> Any:
    """A cache of keys and values in a copy of its own, so that what a layer adds to it is not there the next time."""
    if isinstance(value, EncoderDecoderCache):
        both = copy.copy(value)
        both.self_attention_cache = _as_given(value.self_attention_cache)
        both.cross_attention_cache = _as_given(value.cross_attention_cache)
        both.is_updated = dict(value.is_updated)
        return both
    if isinstance(value, Cache):
        cache = copy.copy(value)
        cache.layers = [copy.copy(layer) for layer in value.layers]
        return cache
    return value
