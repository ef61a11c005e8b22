"""From each lane's last hidden states to what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.data import IGNORED, Batch
from src.models.hardware import master_dtype
from src.models.heads import Head, pool
from src.spec.run import Pooling


@dataclass(frozen=True)
class LaneOutput:
    """What one lane predicts for its batch, in float32 or better.

    Attributes:
        logits: m x C; for causal_lm and seq2seq m counts the predicted tokens of all rows, C is the vocabulary.
        targets: m.
    """

    logits: Tensor
    targets: Tensor


def classify(head: Head, hidden: Tensor, batch: Batch, pooling: Pooling) -> LaneOutput:
    """A task head's logits.

    Args:
        hidden: b x L x d.
    """
    mask = F.pad(batch.attention_mask, (0, hidden.shape[1] - batch.length)).to(hidden.device)
    weight, bias = head["head.weight"], head["head.bias"]
    pooled = pool(hidden.to(weight.dtype), mask, pooling)
    return LaneOutput(F.linear(pooled, weight, bias), batch.labels.to(hidden.device))


def next_tokens(blocks: Sequence[Tensor], batches: Sequence[Batch], output: nn.Module) -> list[LaneOutput]:
    """Logits only where a label asks for one: the vocabulary product is the dearest of all.

    Args:
        blocks: each lane's last hidden states, b x L x d.
        output: from hidden states to the vocabulary.
    """
    states, targets = [], []
    for block, batch in zip(blocks, batches, strict=True):
        labels = F.pad(batch.labels, (0, block.shape[1] - batch.labels.shape[1]), value=IGNORED).to(block.device)
        if not batch.decodes:  # what a decoder reads is shifted already
            labels = labels[:, 1:]
        wanted = labels != IGNORED
        states.append(block[:, : labels.shape[1]][wanted])
        targets.append(labels[wanted])
    logits = output(torch.cat(states)).split([len(t) for t in targets])
    return [LaneOutput(lane.to(master_dtype(lane.dtype)), t) for lane, t in zip(logits, targets, strict=True)]
