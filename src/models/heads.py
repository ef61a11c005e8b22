"""Task heads: what turns hidden states into predictions, one for each lane, trained alike in all cells."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from src.spec.run import Pooling
from src.spec.seeds import derive_seed

Head = Mapping[str, nn.Parameter]


def make_head(num_labels: int, hidden_size: int, seed: int, *, device: torch.device, dtype: torch.dtype) -> Head:
    """A linear head: weight num_labels x hidden_size from N(0, 0.02), bias 0; empty for tasks that
    predict text (num_labels 0)."""
    if num_labels == 0:
        return {}
    generator = torch.Generator().manual_seed(derive_seed(seed, "head"))
    weight = torch.empty(num_labels, hidden_size).normal_(0.0, 0.02, generator=generator)
    return {
        "head.weight": nn.Parameter(weight.to(device, dtype)),
        "head.bias": nn.Parameter(torch.zeros(num_labels, device=device, dtype=dtype)),
    }


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector for each row.

    Args:
        hidden: b x L x d.
        mask: b x L, 1 at tokens and 0 at padding (on the right).
        pooling: mean over tokens, the first token, or the last.

    Returns:
        b x d.
    """
    match pooling:
        case "mean":
            weights = mask.to(hidden.dtype).unsqueeze(-1)
            return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
        case "first":
            return hidden[:, 0]
        case "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
