"""Singular values and vectors of delta W = s B A from its factors; the d_out x d_in product is never formed.

With A^T = Q_A R_A and B = Q_B R_B, delta W = Q_B (s R_B R_A^T) Q_A^T, so the SVD of an r x r matrix is all that is
left: O((d_in + d_out) r^2) instead of O(d^3). Everything is in float64, whatever the factors' precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from src.adapters.lowrank import LowRank


@dataclass(frozen=True)
class Svd:
    """Singular triplets, largest first; vectors are columns.

    Attributes:
        u: d_out x k.
        s: k.
        v: d_in x k.
    """

    u: Tensor
    s: Tensor
    v: Tensor

    def top(self, k: int) -> Svd:
        """The k largest."""
        return Svd(self.u[:, :k], self.s[:k], self.v[:, :k])


@dataclass(frozen=True)
class Size:
    """How large delta W is, and over how many directions that is spread.

    Attributes:
        frobenius: the root of the sum of s_i^2.
        spectral: the largest s_i.
        stable_rank: sum of s_i^2 over the largest s_i^2 (Rudelson and Vershynin 2007); None where delta W is 0.
        effective_rank: exp of the entropy of s_i / sum of s (Roy and Vetterli 2007); None where delta W is 0.
    """

    frobenius: float
    spectral: float
    stable_rank: float | None
    effective_rank: float | None


def delta_svd(adapter: LowRank) -> Svd:
    """The SVD of delta W.

    Returns:
        min(r, d_in, d_out) triplets; vectors of singular values that are 0 up to rounding are arbitrary, see
        `numerical_rank`.
    """
    q_a, r_a = torch.linalg.qr(adapter.a.detach().double().T)
    q_b, r_b = torch.linalg.qr(adapter.b.detach().double())
    u, s, vh = torch.linalg.svd(adapter.scale * (r_b @ r_a.T), full_matrices=False)
    return Svd(q_b @ u, s, q_a @ vh.T)


def right_vectors(a: Tensor) -> Tensor:
    """Right-singular vectors of A (r x d_in), largest first, as columns; those of singular value 0 are left out."""
    q, r = torch.linalg.qr(a.detach().double().T)
    u, s, _ = torch.linalg.svd(r, full_matrices=False)
    return q @ u[:, : numerical_rank(s, max(a.shape))]


def numerical_rank(s: Tensor, dimension: int) -> int:
    """How many singular values, largest first, are not 0 up to the rounding of a matrix of that size in float64."""
    largest = float(s[0]) if len(s) else 0.0
    return int((s > largest * dimension * torch.finfo(torch.float64).eps).sum()) if largest > 0.0 else 0


def nonzero(svd: Svd) -> Svd:
    """Without the triplets whose singular value is 0 up to rounding."""
    return svd.top(numerical_rank(svd.s, max(len(svd.u), len(svd.v))))


def size_of(s: Tensor) -> Size:
    """Norms and ranks from singular values, largest first."""
    squares, spectral = float(s.square().sum()), float(s[0])
    if spectral == 0.0:
        return Size(0.0, 0.0, None, None)
    share = s / s.sum()
    entropy = -torch.special.xlogy(share, share).sum()
    return Size(squares**0.5, spectral, squares / spectral**2, float(entropy.exp()))


def cosine_with(adapter: LowRank, weight: Tensor) -> float | None:
    """Cosine of delta W with W as vectors, <dW, W> / (|dW| |W|); None where one of them is 0.

    <s B A, W> = s sum of (B^T W) * A, so that nothing is larger than r x d_in.

    Args:
        weight: W, d_out x d_in.
    """
    a, b = adapter.a.detach().double(), adapter.b.detach().double()
    inner = adapter.scale * float(((b.T @ weight.double()) * a).sum())
    # |B A|^2 = <B^T B, A A^T>
    length = abs(adapter.scale) * float(((b.T @ b) * (a @ a.T)).sum().clamp(min=0.0).sqrt())
    product = length * float(torch.linalg.vector_norm(weight.double()))
    return inner / product if product > 0.0 else None
