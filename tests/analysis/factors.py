"""Random adapters and weights for tests."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from src.adapters.lowrank import LowRank


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def frame(dimension: int, rank: int, seed: int = 0) -> Tensor:
    """Orthonormal columns, uniformly distributed."""
    return torch.linalg.qr(gaussian(dimension, rank, seed=seed)).Q


def low_rank(a: Tensor, b: Tensor, scale: float = 0.5) -> LowRank:
    return LowRank(nn.Parameter(a), nn.Parameter(b), scale, 0, 0.0)


def adapter(d_out: int, d_in: int, rank: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> LowRank:
    return low_rank(gaussian(rank, d_in, seed=seed, dtype=dtype), gaussian(d_out, rank, seed=seed + 1, dtype=dtype))
