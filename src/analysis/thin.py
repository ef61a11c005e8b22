"""Singular values and vectors of delta W = s B A from its factors; the d_out x d_in product is never formed.

With A^T = Q_A R_A and B = Q_B R_B, delta W = Q_B (s R_B R_A^T) Q_A^T, so the SVD of an r x r matrix is all that is
left: O((d_in + d_out) r^2) instead of O(d^3). Everything is in float64, whatever the factors' precision. Adapters of
one shape go through LAPACK as one batch; Householder's QR keeps small singular values where a Gram matrix would not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    return delta_svds([adapter])[0]


def delta_svds(adapters: Sequence[LowRank]) -> list[Svd]:
    """`delta_svd` of each adapter, in their order; those of one shape together."""
    found: dict[int, Svd] = {}
    for places in _alike([(*adapter.a.shape, len(adapter.b)) for adapter in adapters]):
        batch = delta_svd_batch([adapters[place] for place in places])
        found |= {place: Svd(*triplet) for place, *triplet in zip(places, batch.u, batch.s, batch.v, strict=True)}
    return [found[place] for place in range(len(adapters))]


def delta_svd_batch(adapters: Sequence[LowRank]) -> Svd:
    """`delta_svd` of n adapters of one shape, with a first dimension n in u, s and v."""
    q_a, r_a = torch.linalg.qr(_wide([adapter.a for adapter in adapters]).mT)
    q_b, r_b = torch.linalg.qr(_wide([adapter.b for adapter in adapters]))
    scales = torch.tensor([adapter.scale for adapter in adapters], dtype=torch.float64, device=r_a.device)
    u, s, vh = torch.linalg.svd(scales[:, None, None] * (r_b @ r_a.mT), full_matrices=False)
    return Svd(q_b @ u, s, q_a @ vh.mT)


def right_vectors(a: Tensor) -> Tensor:
    """Right-singular vectors of A (r x d_in), largest first, as columns; those of singular value 0 are left out."""
    return all_right_vectors([a])[0]


def all_right_vectors(factors: Sequence[Tensor]) -> list[Tensor]:
    """`right_vectors` of each A, in their order; those of one shape together."""
    found: dict[int, Tensor] = {}
    for places in _alike([tuple(a.shape) for a in factors]):
        q, r = torch.linalg.qr(_wide([factors[place] for place in places]).mT)
        u, s, _ = torch.linalg.svd(r, full_matrices=False)
        for place, vectors, values in zip(places, q @ u, s, strict=True):
            found[place] = vectors[:, : numerical_rank(values, max(factors[place].shape))]
    return [found[place] for place in range(len(factors))]


def _alike(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Places of equal shapes, each group in ascending order."""
    for shape in dict.fromkeys(shapes):
        yield [place for place, other in enumerate(shapes) if other == shape]


def _wide(factors: Sequence[Tensor]) -> Tensor:
    return torch.stack([factor.detach() for factor in factors]).double()


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
