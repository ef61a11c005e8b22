"""Amplification (Hu et al. 2021, section 7.3, table 7): how much of W lies along the directions that delta W uses.

||U^T W V||_F with U and V the top r singular directions of delta W, of W itself, or of a random matrix; the factor is
||delta W||_F over the first of them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from src.analysis.thin import Svd
from src.spec.seeds import derive_seed

DRAWS = 8


@dataclass(frozen=True)
class Amplification:
    """One matrix; norms are Frobenius norms.

    Attributes:
        rank: directions used: those of delta W whose singular value is not 0.
        dw_norm, w_norm: of delta W and W.
        along_dw, along_w, along_random: ||U^T W V||_F; None where delta W is 0.
        factor: dw_norm / along_dw; None where there is no such quotient.
    """

    rank: int
    dw_norm: float
    w_norm: float
    along_dw: float | None
    along_w: float | None
    along_random: float | None
    factor: float | None


def amplification(delta: Svd, weight: Tensor, singular_values: Tensor) -> Amplification:
    """Table 7's columns for one matrix.

    Args:
        delta: of delta W, without triplets whose singular value is 0.
        weight: W, d_out x d_in, float64.
        singular_values: of W, largest first.
    """
    rank, w_norm = len(delta.s), float(torch.linalg.vector_norm(weight))
    if rank == 0:
        return Amplification(0, 0.0, w_norm, None, None, None, None)
    dw_norm, along_dw = float(torch.linalg.vector_norm(delta.s)), float(along(delta.u, weight, delta.v))
    return Amplification(
        rank=rank,
        dw_norm=dw_norm,
        w_norm=w_norm,
        along_dw=along_dw,
        # U^T W V is diagonal for W's own directions.
        along_w=float(torch.linalg.vector_norm(singular_values[:rank].double())),
        along_random=along_random(weight, rank),
        factor=dw_norm / along_dw if along_dw > 0.0 else None,
    )


def along(u: Tensor, weight: Tensor, v: Tensor) -> Tensor:
    """||U^T W V||_F for frames U (... x d_out x r) and V (... x d_in x r), one number for each pair."""
    return torch.linalg.matrix_norm(u.mT @ (weight @ v))


def along_random(weight: Tensor, rank: int) -> float:
    """The mean of `along` over DRAWS pairs of random frames; the same frames for every matrix of a shape."""
    d_out, d_in = weight.shape
    u, v = _random_frames(d_out, d_in, rank)
    return float(along(u.to(weight.device), weight, v.to(weight.device)).mean())


@functools.lru_cache(maxsize=8)
def _random_frames(d_out: int, d_in: int, rank: int) -> tuple[Tensor, Tensor]:
    """DRAWS pairs of frames, DRAWS x d x r each, uniformly distributed as the singular directions of a Gaussian are."""
    generator = Generator().manual_seed(derive_seed(0, "random directions", d_out, d_in, rank))
    u, v = (torch.randn(DRAWS, side, rank, dtype=torch.float64, generator=generator) for side in (d_out, d_in))
    return torch.linalg.qr(u).Q, torch.linalg.qr(v).Q
