"""Batches for benchmarks: a task's own tokens, laid end to end and cut into rows of one length, so without padding."""

from __future__ import annotations

import torch
from torch import Tensor

from src.data import Batch, TaskData, TokenSplit, collate, epoch_batches
from src.errors import ConfigError

KINDS = ("classification", "regression", "causal_lm")


def full_batches(data: TaskData, rows: int, length: int, count: int) -> list[Batch]:
    """`count` batches of rows x length tokens of the training split; a short split begins again.

    Labels are those of the split's first examples, in order. Where text is predicted, the end of each row is, as large
    a share of it as of the split's own tokens.

    Raises:
        ConfigError: pictures, or a decoder with targets of its own.
    """
    split = data.train
    if data.spec.kind not in KINDS or not isinstance(split, TokenSplit):
        kind = "pictures" if data.spec.kind in KINDS else data.spec.kind
        raise ConfigError("task", kind, f"texts for {', '.join(KINDS)}")
    total = count * rows
    starts = None
    if split.completion_starts is not None:
        given = float(split.completion_starts.sum()) / split.num_tokens
        starts = torch.full((total,), min(round(given * length), length - 1))
    cut = TokenSplit(
        _cycled(split.input_ids, total * length),
        length * torch.arange(total + 1),
        labels=None if split.labels is None else _cycled(split.labels, total),
        completion_starts=starts,
    )
    return [collate(cut, indices, data.pad_id) for indices in torch.arange(total).split(rows)]


def natural_batches(data: TaskData, rows: int, count: int) -> tuple[list[Batch], list[Batch]]:
    """`count` batches of `rows` texts of the training split, padded to the longest of each.

    Returns:
        Drawn at random, as a plain shuffle gives them; and the first of an epoch as the trainer makes it, in which
        texts of like length stand together.
    """
    split = data.train
    shuffled = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[: count * rows].split(rows)
    sorted_by_length = epoch_batches(split.lengths, rows, 0, 0)[:count]
    drawn, own = ([collate(split, i, data.pad_id) for i in batches] for batches in (shuffled, sorted_by_length))
    return drawn, own


def _cycled(values: Tensor, wanted: int) -> Tensor:
    return values.repeat(-(-wanted // len(values)))[:wanted]
