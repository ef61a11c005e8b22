"""Texts end to end in one row, so that nothing is computed for padding.

Linear layers, norms and activations see every token once, whatever lengths stand side by side; attention alone takes
the texts apart again, and puts those of similar length into one batch (src/models/attention.py).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from src.data import Batch
from src.models.loading import Base
from src.spec import RunSpec

# Texts of at least this share of the longest join it in a bucket: the rest of its rows there are padding.
SIMILAR = 3 / 4
# Where texts fill at least this share of a padded batch, taking them apart for attention costs more than the padding.
FULL = 0.9
# Positions in a bucket on CPUs: what a bucket computes with then stays in the caches.
CACHED = 2048
# Architectures that take positions from outside and attend through transformers' registry of attention functions.
# tests/models/test_packing.py holds each against its padded form. Missing are those whose attention depends on more
# than queries, keys and values (relative positions, ALiBi, soft caps), and encoder-decoder models.
PACKED = frozenset(
    {
        "bert", "roberta", "xlm-roberta", "electra", "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma",
        "phi3",
    }
)  # fmt: skip
_COUNT_FROM_PADDING = frozenset({"roberta", "xlm-roberta"})
_TYPED = frozenset({"bert", "roberta", "xlm-roberta", "electra"})


@dataclass(frozen=True)
class Bucket:
    """n texts of at most L tokens whose attention is computed together.

    Attributes:
        rows: int64 [n, L], the row of each position; a text's last row again where it is shorter.
        valid: bool [n, L], whether a position is the text's own; None where all are.
    """

    rows: Tensor
    valid: Tensor | None


@dataclass(frozen=True)
class Layout:
    """Where each text's tokens stand among T rows.

    Attributes:
        lengths: tokens of each text, in the order of the rows.
        offsets: rows at which the lanes begin, and T.
        buckets: every text in one of them.
        places: int64 [T], where each row is found in the buckets' positions, one bucket after the other.
    """

    lengths: Tensor
    offsets: tuple[int, ...]
    buckets: tuple[Bucket, ...]
    places: Tensor
    _by_heads: dict[Any, Tensor] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())

    @functools.cached_property
    def uniform(self) -> bool:
        """Whether all texts are equally long, so that rows need no gathering."""
        return bool((self.lengths == self.lengths[0]).all())

    def gather_index(self, number: int, heads: int, groups: int) -> Tensor:
        """int64 [n * heads * L]: for bucket `number`, rows of a (T * groups) x d tensor, head by head.

        Args:
            groups: heads of the tensor; `heads / groups` neighbouring heads share one.
        """
        key = (number, heads, groups)
        if key not in self._by_heads:
            rows = self.buckets[number].rows
            of = torch.arange(heads, device=rows.device) // (heads // groups)
            self._by_heads[key] = (rows[:, None, :] * groups + of[None, :, None]).flatten()
        return self._by_heads[key]

    def scatter_index(self, heads: int) -> Tensor:
        """int64 [T * heads]: where each row's heads are found in what the buckets give, each n x heads x L."""
        if heads not in self._by_heads:
            starts, lengths = self._texts
            of = torch.arange(heads, device=self.places.device)
            text = torch.searchsorted(starts, self.places, right=True) - 1
            within = self.places - starts[text]
            self._by_heads[heads] = (
                starts[text][:, None] * heads + of[None, :] * lengths[text][:, None] + within[:, None]
            ).flatten()
        return self._by_heads[heads]

    @functools.cached_property
    def _texts(self) -> tuple[Tensor, Tensor]:
        """First position, and number of positions, of each text in the buckets."""
        lengths = torch.cat([torch.full((len(b.rows),), b.rows.shape[1]) for b in self.buckets])
        starts = lengths.cumsum(0) - lengths
        return starts.to(self.places.device), lengths.to(self.places.device)


def can_pack(base: Base, spec: RunSpec) -> bool:
    """Whether texts of this model may stand end to end; a trained prefix is one for each row of a padded batch."""
    config: Any = base.model.config
    text = spec.task.image is None and spec.task.kind != "seq2seq" and not config.is_encoder_decoder
    return text and config.model_type in PACKED and spec.method.name not in {"prefix", "lora_prefix"}


def filled_share(batches: Sequence[Batch]) -> float:
    """Tokens over positions if all texts are padded to the longest."""
    length, texts = max(batch.length for batch in batches), sum(len(batch.attention_mask) for batch in batches)
    return sum(int(batch.attention_mask.sum()) for batch in batches) / (length * texts)


def token_rows(batches: Sequence[Batch], device: torch.device) -> tuple[Tensor, ...]:
    """Of each batch, int64, the positions (of b * L) that are tokens."""
    return tuple(batch.attention_mask.flatten().nonzero().squeeze(1).to(device) for batch in batches)


def lay_out(batches: Sequence[Batch], device: torch.device) -> Layout:
    """The layout of the texts of several lanes, one batch each."""
    per_lane = [batch.attention_mask.sum(dim=1) for batch in batches]
    offsets = torch.stack([lengths.sum() for lengths in per_lane]).cumsum(0)
    lengths = torch.cat(per_lane)
    starts = lengths.cumsum(0) - lengths
    buckets, places, used = [], torch.empty(int(offsets[-1]), dtype=torch.int64), 0
    most = CACHED if device.type == "cpu" else int(offsets[-1])
    for texts in _similar(lengths, most):
        size = lengths[texts]
        positions = torch.arange(int(size.max()))
        valid = positions < size[:, None]
        rows = starts[texts][:, None] + torch.minimum(positions, size[:, None] - 1)
        places[rows[valid]] = used + torch.arange(rows.numel()).view_as(rows)[valid]
        used += rows.numel()
        buckets.append(Bucket(rows.to(device), None if bool(valid.all()) else valid.to(device)))
    return Layout(lengths, (0, *offsets.tolist()), tuple(buckets), places.to(device))


def packed_inputs(batches: Sequence[Batch], layout: Layout, config: Any, device: torch.device) -> dict[str, Tensor]:
    """What the backbone is called with: token ids and positions, int64 [1, T]."""
    kept = [(batch, batch.attention_mask.bool()) for batch in batches]
    rows = torch.arange(layout.offsets[-1])
    starts = layout.lengths.cumsum(0) - layout.lengths
    first = config.pad_token_id + 1 if config.model_type in _COUNT_FROM_PADDING else 0
    inputs = {
        "input_ids": torch.cat([batch.input_ids[mask] for batch, mask in kept if batch.input_ids is not None]),
        "position_ids": first + rows - starts.repeat_interleave(layout.lengths),
    }
    if config.model_type in _TYPED:
        zeros = torch.zeros_like(rows)
        types = [batch.token_type_ids[mask] for batch, mask in kept if batch.token_type_ids is not None]
        inputs["token_type_ids"] = torch.cat(types) if types else zeros
    return {name: tensor.unsqueeze(0).to(device) for name, tensor in inputs.items()}


def unpack(hidden: Tensor, batches: Sequence[Batch], layout: Layout) -> list[Tensor]:
    """Each lane's rows of T x d as b x L x d, with zeros at padding."""
    lanes = hidden.split(list(map(operator.sub, layout.offsets[1:], layout.offsets)))
    texts = layout.lengths.split([len(batch.attention_mask) for batch in batches])
    blocks = []
    for rows, lengths, batch in zip(lanes, texts, batches, strict=True):
        if len(rows) == len(lengths) * batch.length:
            blocks.append(rows.view(len(lengths), batch.length, -1))
            continue
        padded = pad_sequence(rows.split(lengths.tolist()), batch_first=True)
        blocks.append(F.pad(padded, (0, 0, 0, batch.length - padded.shape[1])))
    return blocks


def _similar(lengths: Tensor, most: int) -> list[Tensor]:
    """Groups of texts, longest first; in one, no text is shorter than SIMILAR of the longest.

    Args:
        most: positions of a group of more than one text.
    """
    order = lengths.argsort(descending=True, stable=True)
    sizes: Sequence[int] = lengths[order].tolist()
    groups, begin = [], 0
    for i, size in enumerate(sizes):
        if size < SIMILAR * sizes[begin] or (i > begin and (i - begin + 1) * sizes[begin] > most):
            groups.append(order[begin:i].sort().values)
            begin = i
    return [*groups, order[begin:].sort().values]
