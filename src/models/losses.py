"""Losses as sums over examples or tokens, so that any split into micro-batches adds up to the same mean."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from src.data import IGNORED, Batch
from src.models.outputs import LaneOutput
from src.spec import TEXT_KINDS, TaskKind


def loss_sum(kind: TaskKind, output: LaneOutput, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy, or squared error for regression, summed over all targets."""
    if kind == "regression":
        return F.mse_loss(output.logits.squeeze(-1), output.targets.to(output.logits.dtype), reduction="sum")
    return F.cross_entropy(output.logits, output.targets, reduction="sum", label_smoothing=label_smoothing)


def num_targets(kind: TaskKind, batch: Batch) -> int:
    """By how much a sum must be divided to be a mean: examples, or predicted tokens for causal_lm and seq2seq."""
    if kind not in TEXT_KINDS:
        return len(batch.labels)
    return int(predicted(batch).sum())


def predicted(batch: Batch) -> Tensor:
    """Where a token is predicted, bool [b, L - 1], or [b, T] for seq2seq; nothing comes before causal_lm's first."""
    return (batch.labels if batch.decodes else batch.labels[:, 1:]) != IGNORED
