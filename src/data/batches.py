"""Which examples share a batch, and how they are padded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from src.data.draws import generator
from src.data.pixels import PictureSplit, Split

WINDOW = 50  # batches whose examples are sorted by length together
IGNORED = -100  # label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Batch:
    """b examples, padded on the right to the longest of them, L tokens; or b pictures, of which a model makes L each.

    Attributes:
        input_ids: int64 [b, L]; None for pictures.
        attention_mask: int64 [b, L], 0 at padding.
        labels: class ids int64 [b], numbers float32 [b], or for causal_lm int64 [b, L] with -100 outside the
            completion (not shifted: the label at a position is the token at that position). For seq2seq int64 [b, T],
            the decoder's targets, padded with -100 to the longest of them.
        token_type_ids: int64 [b, L], 1 in the second text of a pair; None where the tokenizer does not use them.
        decodes: whether labels are the targets of a decoder (seq2seq).
        pixel_values: float32 [b, C, H, W] for pictures, else None.
        split, indices: where the examples come from, and their places in it, int64 [b]; None where that is not known.
    """

    input_ids: Tensor | None
    attention_mask: Tensor
    labels: Tensor
    token_type_ids: Tensor | None = None
    decodes: bool = False
    pixel_values: Tensor | None = None
    split: Split | None = None
    indices: Tensor | None = None

    @property
    def length(self) -> int:
        """L."""
        return self.attention_mask.shape[1]

    @property
    def target_length(self) -> int:
        """T, 0 where there is no decoder."""
        return self.labels.shape[1] if self.decodes else 0

    @property
    def output_mask(self) -> Tensor:
        """1 where a model's last hidden states are of tokens, int64 [b, L] or of a decoder [b, T]."""
        return (self.labels != IGNORED).long() if self.decodes else self.attention_mask

    @property
    def num_tokens(self) -> int:
        """Tokens of inputs and targets without padding."""
        targets = int((self.labels != IGNORED).sum()) if self.decodes else 0
        return int(self.attention_mask.sum()) + targets


def epoch_batches(lengths: Tensor, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """One epoch's batches: a seeded shuffle, sorted by length within windows of WINDOW batches.

    Depends on nothing but the arguments, so cells of a sweep with the same seed see the same batches.

    Args:
        lengths: int64 [n], tokens of each example.

    Returns:
        int64 index tensors of batch_size examples each that partition range(n). The last may be smaller: its place is
        the same for all seeds, so that lanes with different seeds have equally many rows at every step.
    """
    draw = generator("epoch", seed, epoch)
    shuffled = torch.randperm(len(lengths), generator=draw)
    batches: list[Tensor] = []
    for window in shuffled.split(WINDOW * batch_size):
        batches += window[lengths[window].argsort(stable=True)].split(batch_size)
    num_whole = len(lengths) // batch_size
    order = torch.randperm(num_whole, generator=draw).tolist()
    return [batches[i] for i in order] + batches[num_whole:]


def evaluation_batches(split: Split, batch_size: int) -> list[Tensor]:
    """All examples once, sorted by length (ties in source order): int64 index tensors."""
    return list(split.lengths.argsort(stable=True).split(batch_size)) if len(split) else []


def collate(split: Split, indices: Tensor, pad_id: int) -> Batch:
    """The examples at `indices` (int64 [b]), in that order."""
    if isinstance(split, PictureSplit):
        mask = torch.ones(len(indices), split.processor.num_tokens, dtype=torch.int64)
        pixels = split.pixel_values(indices)
        return Batch(None, mask, split.labels[indices], pixel_values=pixels, split=split, indices=indices)
    input_ids, mask = _pad(split.input_ids, split.offsets, indices, pad_id)
    positions = torch.arange(input_ids.shape[1])
    if split.target_ids is not None and split.target_offsets is not None:
        labels, _ = _pad(split.target_ids, split.target_offsets, indices, IGNORED)
    elif split.completion_starts is not None:
        predicted = mask & (positions >= split.completion_starts[indices][:, None])
        labels = torch.where(predicted, input_ids, IGNORED)
    elif split.labels is not None:
        labels = split.labels[indices]
    else:
        raise ValueError("a split has labels, completion_starts or targets")
    types = None if split.pair_starts is None else (mask & (positions >= split.pair_starts[indices][:, None])).long()
    decodes = split.target_ids is not None
    return Batch(input_ids, mask.long(), labels, types, decodes=decodes, split=split, indices=indices)


def _pad(ids: Tensor, offsets: Tensor, indices: Tensor, fill: int) -> tuple[Tensor, Tensor]:
    """The sequences at `indices`, filled up to the longest, and a mask that is true at their tokens."""
    lengths = offsets.diff()[indices]
    positions = torch.arange(int(lengths.max()))
    mask = positions < lengths[:, None]
    source = torch.where(mask, offsets[indices][:, None] + positions, 0)
    return torch.where(mask, ids[source].long(), fill), mask
