"""The one adapted layer: a frozen linear layer shared by all lanes, and each lane's adapters on it."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from src.adapters.lane_linear import lane_linear
from src.adapters.lowrank import LowRank, Term, adapted_norms
from src.adapters.products import frozen_linear
from src.adapters.projections import is_transposed
from src.adapters.rows import Rows


@dataclass
class Roster:
    """Which lanes' rows are in the batch, in order; shared by all layers of an adapted model.

    Attributes:
        lanes: lane of each block of rows.
        generators: each lane's own source of dropout masks.
        training: whether dropout applies.
        lengths: each lane's own padded length in this batch. Masks are drawn at this length, so that the padding
            which company brings does not change what a lane draws.
        target_lengths: the same of the decoder's rows, where the model has an encoder and a decoder.
        texts: examples of each lane in the batch.
        offsets: where the lanes' rows begin, and the end of the last, if the texts of a batch stand end to end without
            padding; else empty.
        tokens: of such rows, int64, which of its texts x length positions each lane has; masks are drawn for all of
            these, so that a lane draws the same in either form.
    """

    lanes: tuple[int, ...] = ()
    generators: dict[int, Generator] = field(default_factory=dict)
    training: bool = False
    lengths: tuple[int, ...] = ()
    target_lengths: tuple[int, ...] = ()
    texts: int = 0
    offsets: tuple[int, ...] = ()
    tokens: tuple[Tensor, ...] = ()

    @contextlib.contextmanager
    def end_to_end(self, offsets: tuple[int, ...], tokens: tuple[Tensor, ...]) -> Iterator[None]:
        """Within the block rows stand as `offsets` and `tokens` say; what runs outside has padded texts."""
        self.offsets, self.tokens = offsets, tokens
        try:
            yield
        finally:
            self.offsets, self.tokens = (), ()

    def spans(self, rows: int) -> list[tuple[int, int]]:
        """First row and the one after the last of each lane, in the order of `lanes`.

        Args:
            rows: of all lanes, of which without `offsets` each has equally many.
        """
        if self.offsets:
            return list(itertools.pairwise(self.offsets))
        share = rows // len(self.lanes)
        return [(block * share, (block + 1) * share) for block in range(len(self.lanes))]


class LoraLinear(nn.Module):
    """h = x W0^T + b + sum over the letters here of scale (x A^T) B^T, for each lane on its own rows.

    Args:
        base: nn.Linear or transformers' Conv1D, frozen.
        roster: the lanes in the batch.
        decodes: whether its rows are positions of the target, not of the input (encoder-decoder models).
        shared_rows: whether it is also given rows that are no positions of a text, so that their number says nothing;
            there is one lane then.
    """

    def __init__(self, base: nn.Module, roster: Roster, *, decodes: bool = False, shared_rows: bool = False) -> None:
        super().__init__()
        self.base = base
        self.roster = roster
        self.decodes, self.shared_rows = decodes, shared_rows
        self.adapters: dict[int, list[LowRank]] = {}
        self._unmerged: Tensor | None = None
        self._squares: dict[Rows, Tensor] = {}

    @property
    def weight(self) -> Tensor:
        """W0 as a d_out x d_in view, however the layer stores it."""
        weight = self.base.weight
        assert isinstance(weight, Tensor)
        return weight.T if is_transposed(self.base) else weight

    @property
    def bias(self) -> Tensor | None:
        """The frozen layer's bias, d_out."""
        bias = self.base.bias
        assert bias is None or isinstance(bias, Tensor)
        return bias

    def add(self, lane: int, adapter: LowRank) -> None:
        """Attach an adapter to a lane."""
        self.adapters.setdefault(lane, []).append(adapter)

    def forward(self, x: Tensor) -> Tensor:
        """Args:
        x: the rows of the roster's lanes, ... x d_in, one lane's after the other's.
        """
        if self._unmerged is not None:
            return frozen_linear(x, self.weight, self.bias)
        lanes = self.roster.lanes
        masks: dict[Rows, Tensor] = {}
        terms = [
            Term(span, part, self._draw_mask(x, lane, span, part, masks), self._norms(part))
            for lane, span in zip(lanes, self.roster.spans(x.shape[:-1].numel()), strict=True)
            for adapter in self.adapters.get(lane, ())
            for part in adapter.parts
        ]
        if not terms:
            # The plain product saves no input for a weight that is frozen.
            return frozen_linear(x, self.weight, self.bias)
        return lane_linear(x, self.weight, self.bias, terms)

    @torch.no_grad()
    def merge(self, lane: int) -> None:
        """Add the lane's delta W to the weight; the weight as it was is kept for `unmerge`."""
        if self._unmerged is None:
            self._unmerged = self.weight.clone()
            for adapter in self.adapters.get(lane, ()):
                adapter.rows.copy_(self.weight, adapter.adapted(adapter.rows.take(self.weight, 0)), 0)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the weight back, bit for bit."""
        if self._unmerged is not None:
            self.weight.copy_(self._unmerged)
            self._unmerged = None

    @torch.no_grad()
    def _norms(self, adapter: LowRank) -> Tensor | None:
        """Row norms of the adapted weight, d_out, where the adapter has a magnitude."""
        if adapter.magnitude is None:
            return None
        weight = adapter.rows.take(self.weight, 0)
        if adapter.rows not in self._squares:
            self._squares[adapter.rows] = weight.to(adapter.magnitude.dtype).square().sum(dim=1)
        return adapted_norms(adapter, weight, self._squares[adapter.rows])

    def _draw_mask(
        self, x: Tensor, lane: int, span: tuple[int, int], adapter: LowRank, masks: dict[Rows, Tensor]
    ) -> Tensor | None:
        """Which elements of its input an adapter keeps, drawn into the mask that all lanes of its letter share.

        Args:
            masks: of the letters so far, uint8 [T, d_in].
        """
        if not (self.roster.training and adapter.dropout > 0):
            return None
        if adapter.rows not in masks:
            masks[adapter.rows] = torch.zeros(x.shape[:-1].numel(), x.shape[-1], dtype=torch.uint8, device=x.device)
        mask, generator = masks[adapter.rows][span[0] : span[1]], self.roster.generators[lane]
        if self.roster.offsets:
            block = self.roster.lanes.index(lane)
            shape = (self.roster.texts * self.roster.lengths[block], x.shape[-1])
            drawn = draw_kept(shape, adapter.dropout, generator)
            torch.index_select(drawn.view(torch.uint8), 0, self.roster.tokens[block], out=mask)
        else:
            texts, length, own = self._drawn_shape(x, lane, span)
            drawn = draw_kept((texts, own, x.shape[-1]), adapter.dropout, generator)
            mask.view(texts, length, -1)[:, :own] = drawn
        return masks[adapter.rows]

    def _drawn_shape(self, x: Tensor, lane: int, span: tuple[int, int]) -> tuple[int, int, int]:
        """Texts of a lane, rows of each, and how many of these are drawn: padding that company brings is not."""
        roster, rows = self.roster, span[1] - span[0]
        block, lengths = roster.lanes.index(lane), roster.target_lengths if self.decodes else roster.lengths
        # OPT hands its MLP all positions of all texts in one dimension; what sees no positions has a row for each text.
        flattened = rows == roster.texts * max(lengths, default=0)
        length = x.shape[-2] if x.dim() > 2 else max(lengths) if flattened else rows
        own = lengths[block] if lengths and (x.dim() > 2 or flattened) and not self.shared_rows else length
        return rows // length, length, own


def draw_kept(shape: tuple[int, ...], dropout: float, generator: Generator) -> Tensor:
    """Mask of the elements that dropout keeps, bool, on the generator's device.

    Four elements share a random number of 64 bits, which is several times faster than drawing each: the probability is
    the nearest multiple of 2^-16.
    """
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    least = min(round(dropout * 2**16), 2**16 - 1) - 2**15
    return (words.view(torch.int16)[:count] >= least).view(shape)
