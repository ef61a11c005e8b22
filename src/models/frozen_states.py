"""What enters the lowest trained layer, kept by example: below it nothing ever changes.

Where a pack adapts only layers from k on, the hidden states that enter layer k are the same for all lanes, cells, seeds
and epochs. They are computed once for each example and looked up from then on, in training and in evaluation, by all
packs on one base. With nothing adapted at all they are the backbone's own output, and it does not run any more.

States are computed in groups of examples of like length, always the same ones, so that what is looked up does not
depend on who asked first: a resumed run computes what it would have computed without the interruption.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.adapters.lora_linear import Roster
from src.data import Batch, Split, collate
from src.models.feed import Feed
from src.models.kept_states import KeptStates, shelf_of
from src.models.layers import find_layers
from src.models.loading import Base
from src.models.packing import Layout
from src.spec import RunSpec

logger = logging.getLogger(__name__)
Forward = Callable[..., Any]
# DeBERTa's layers also share relative positions, which its adapted W_q and W_k meet.
_UNFIT = frozenset({"deberta-v2"})


class FrozenStates:
    """The look-up for one pack.

    Args:
        base: whose states are kept.
        roster: of the adapters in it.
        spec: of one of the pack's cells; where it does not ask for it, or its method is another than LoRA or the head
            alone, nothing is ever looked up.
        feed: from batches to the backbone's inputs.
        pad_id: token that fills rows up.
    """

    def __init__(self, base: Base, roster: Roster, spec: RunSpec, feed: Feed, pad_id: int) -> None:
        self._backbone, self._roster, self._feed, self._pad_id = base.backbone, roster, feed, pad_id
        self._writes = base.output is not None
        fits = spec.trainer.cache_frozen and spec.method.name in {"lora", "head"}
        config: Any = base.model.config
        fits = fits and config.model_type not in _UNFIT
        stacks = find_layers(base.backbone, base.projections) if fits else None
        self._layers = stacks[""] if stacks is not None and stacks.keys() == {""} else ()
        # Examples of train that a cell draws; None for one epoch or more. Not the pack's: one that is continued has
        # fewer lanes and must do as it began.
        steps = spec.trainer.max_steps
        self._num_drawn = None if steps is None else steps * spec.trainer.batch_size
        self._shelf = shelf_of(base.model)
        self._shelf.packs += 1
        self._pack = self._shelf.packs

    def last_hidden_state(
        self, batches: Sequence[Batch], lowest: int | None, layout: Layout | None, *, training: bool
    ) -> Tensor | None:
        """What the backbone puts out, in the form of the layout; None where it has to run as a whole.

        Args:
            batches: one for each lane of the roster.
            lowest: the first adapted layer; None where none is adapted.
        """
        depth, split = len(self._layers) if lowest is None else lowest, _common_split(batches)
        if not self._layers or depth == 0 or split is None or self._shelf.agrees.get(depth) is False:
            return None
        if lowest is None and self._writes:  # nothing is trained, so that each split is read once
            return None
        # What is drawn less than once is not worth computing for all.
        if training and self._num_drawn is not None and self._num_drawn < len(split):
            return None
        kept = self._find(split, depth)
        if kept is None:
            return None
        if depth not in self._shelf.agrees:
            # Before anything is drawn for dropout.
            self._check(kept, depth, batches, layout)
        return self._run(kept, depth, batches, layout) if self._shelf.agrees.get(depth) else None

    def _run(self, kept: KeptStates, depth: int, batches: Sequence[Batch], layout: Layout | None) -> Tensor:
        rows = torch.cat([batch.indices for batch in batches if batch.indices is not None])
        self._fill(kept, depth, rows)
        states = self._feed.arranged(kept.look_up(rows, max(batch.length for batch in batches)), batches, layout)
        if depth == len(self._layers):
            return states
        with contextlib.ExitStack() as changes:
            for layer in self._layers[:depth]:
                changes.enter_context(_replaced(layer, self._pass_on))
            changes.enter_context(_replaced(self._layers[depth], _starting_from(states, self._layers[depth].forward)))
            changes.enter_context(self._feed.attention(layout))
            hidden: Tensor = self._backbone(**self._feed.inputs(batches, layout)).last_hidden_state
        return hidden

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _fill(self, kept: KeptStates, depth: int, rows: Tensor) -> None:
        """Compute what is missing for the examples at `rows`, and for those grouped with them."""
        for group in kept.missing(rows):
            kept.put(group, self._entering(depth, collate(kept.split, group, self._pad_id)))

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _find(self, split: Split, depth: int) -> KeptStates | None:
        """Where the split's states are kept, None where there is too little memory."""
        asked, kept = self._shelf.find(split, depth, self._pack)
        if asked:
            return kept
        like = self._entering(depth, collate(split, torch.zeros(1, dtype=torch.int64), self._pad_id))
        kept = self._shelf.make_room(split, depth, like, self._pack)
        if kept is None:
            logger.info("Too little memory is free to keep what enters layer %d; all layers run in each step", depth)
        return kept

    def _entering(self, depth: int, batch: Batch) -> Tensor:
        """The hidden states that enter layer number `depth`, or leave the backbone where there is none: b x L x d."""
        inputs = self._feed.inputs([batch])
        if depth == len(self._layers):
            output: Tensor = self._backbone(**inputs).last_hidden_state
            return output
        first = self._layers[0]
        with _replaced(self._layers[depth], _stop), _replaced(first, self._noting_outputs(first.forward)):
            try:
                self._backbone(**inputs)
            except _EnteredError as entered:
                return entered.hidden
        raise RuntimeError(f"the backbone does not come to its layer {depth}")

    def _noting_outputs(self, forward: Forward) -> Forward:
        def run(*inputs: Any, **named: Any) -> Any:
            output = forward(*inputs, **named)
            self._shelf.tuples = isinstance(output, tuple)
            return output

        return run

    def _pass_on(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states,) if self._shelf.tuples else hidden_states

    @torch.no_grad()
    def _check(self, kept: KeptStates, depth: int, batches: Sequence[Batch], layout: Layout | None) -> None:
        """Note whether a whole pass comes to the same but for rounding, without dropout.

        Nothing is noted where a lane has diverged: what is no number equals nothing.
        """
        training, self._roster.training = self._roster.training, False
        with self._feed.attention(layout):
            whole = self._backbone(**self._feed.inputs(batches, layout)).last_hidden_state
        difference = self._run(kept, depth, batches, layout) - whole
        self._roster.training = training
        tokens = torch.ones(whole.shape[:-1], dtype=torch.bool, device=whole.device)
        if layout is None:
            masks = [F.pad(batch.attention_mask, (0, whole.shape[1] - batch.length)) for batch in batches]
            tokens = torch.cat(masks).bool().to(whole.device)
        error = float(difference[tokens].norm() / whole[tokens].norm())
        if not math.isfinite(error):
            return
        agrees = self._shelf.agrees[depth] = error <= torch.finfo(whole.dtype).eps ** (2 / 3)
        if not agrees:
            logger.warning(
                "What enters layer %d is not kept, as the model comes to something else with it (off by %.1g): all "
                "layers run in each step",
                depth,
                error,
            )


class _EnteredError(Exception):
    """Ends a pass where it comes to a layer."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def _stop(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
    raise _EnteredError(hidden_states)


def _starting_from(states: Tensor, forward: Forward) -> Forward:
    """The layer, reading `states` in place of what the layers before it pass on."""
    return lambda hidden_states, *inputs, **named: forward(states, *inputs, **named)


@contextlib.contextmanager
def _replaced(layer: nn.Module, forward: Forward) -> Iterator[None]:
    """A layer that computes something else meanwhile."""
    own = vars(layer).get("forward")
    vars(layer)["forward"] = forward
    try:
        yield
    finally:
        del vars(layer)["forward"]
        if own is not None:
            vars(layer)["forward"] = own


def _common_split(batches: Sequence[Batch]) -> Split | None:
    """Where all batches come from; None where they come from several splits, or from none that is known."""
    split = batches[0].split
    return split if all(batch.split is split for batch in batches) else None
