"""Which examples share a batch, and how they are padded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from src.data.draws import generator
from src.data.tokens import TokenSplit

WINDOW = 50  # batches whose examples are sorted by length together
IGNORED = -100  # label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Batch:
    """b examples, padded on the right to the longest of them, L tokens.

    Attributes:
        input_ids, attention_mask: int64 [b, L].
        labels: class ids int64 [b], numbers float32 [b], or for causal_lm int64 [b, L] with -100 outside the
            completion (not shifted: the label at a position is the token at that position).
        token_type_ids: int64 [b, L], 1 in the second text of a pair; None where the tokenizer does not use them.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    token_type_ids: Tensor | None = None

    @property
    def length(self) -> int:
        """L."""
        return self.input_ids.shape[1]

    @property
    def num_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.attention_mask.sum())


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


def evaluation_batches(split: TokenSplit, batch_size: int) -> list[Tensor]:
    """All examples once, sorted by length (ties in source order): int64 index tensors."""
    return list(split.lengths.argsort(stable=True).split(batch_size)) if len(split) else []


def collate(split: TokenSplit, indices: Tensor, pad_id: int) -> Batch:
    """The examples at `indices` (int64 [b]), in that order."""
    lengths = split.lengths[indices]
    positions = torch.arange(int(lengths.max()))
    mask = positions < lengths[:, None]
    source = torch.where(mask, split.offsets[indices][:, None] + positions, 0)
    input_ids = torch.where(mask, split.input_ids[source].long(), pad_id)
    if split.completion_starts is not None:
        predicted = mask & (positions >= split.completion_starts[indices][:, None])
        labels = torch.where(predicted, input_ids, IGNORED)
    elif split.labels is not None:
        labels = split.labels[indices]
    else:
        raise ValueError("a split has labels or completion_starts")
    types = None if split.pair_starts is None else (mask & (positions >= split.pair_starts[indices][:, None])).long()
    return Batch(input_ids, mask.long(), labels, types)
