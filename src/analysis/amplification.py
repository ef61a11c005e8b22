"""Amplification (Hu et al. 2021, section 7.3, table 7): how much of W lies along the directions that delta W uses.

||U^T W V||_F with U and V the top r singular directions of delta W, of W itself, or of a random matrix; the factor is
||delta W||_F over the first of them.

W is applied to the directions of all adapters in one product: it is all that still grows with d_out x d_in.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
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
        cosine: of delta W and W as vectors, <dW, W> / (|dW| |W|); None where one of them is 0.
    """

    rank: int
    dw_norm: float
    w_norm: float
    along_dw: float | None
    along_w: float | None
    along_random: float | None
    factor: float | None
    cosine: float | None


def amplifications(deltas: Sequence[Svd], weight: Tensor, singular_values: Tensor) -> list[Amplification]:
    """Table 7's columns for adapters of one matrix, in float64.

    Args:
        deltas: of their delta W, without triplets whose singular value is 0.
        weight: W, d_out x d_in.
        singular_values: of W, largest first.
    """
    weight = weight.double()
    w_norm = float(torch.linalg.vector_norm(weight))
    by_chance = functools.cache(lambda rank: along_random(weight, rank))
    own = singular_values.double()
    products = projected([delta.u for delta in deltas], weight, [delta.v for delta in deltas])
    return [
        _amplification(delta.s, product, w_norm, own, by_chance(len(delta.s)))
        if len(delta.s)
        else Amplification(0, 0.0, w_norm, None, None, None, None, None)
        for delta, product in zip(deltas, products, strict=True)
    ]


def projected(u: Sequence[Tensor], weight: Tensor, v: Sequence[Tensor]) -> list[Tensor]:
    """U^T W V, r x r, for each pair of frames U (d_out x r) and V (d_in x r)."""
    moved = (weight @ torch.cat(list(v), dim=1)).split([frame.shape[1] for frame in v], dim=1)
    return [left.T @ right for left, right in zip(u, moved, strict=True)]


def along_random(weight: Tensor, rank: int) -> float:
    """The mean of ||U^T W V||_F over DRAWS pairs of random frames; the same frames for every matrix of a shape."""
    d_out, d_in = weight.shape
    u, v = (frames.to(weight.device) for frames in _random_frames(d_out, d_in, rank))
    return float(torch.linalg.matrix_norm(torch.stack(projected(list(u), weight, list(v)))).mean())


def _amplification(s: Tensor, product: Tensor, w_norm: float, own: Tensor, by_chance: float) -> Amplification:
    """Of one delta W with singular values s.

    Args:
        product: U^T W V.
        own: W's singular values.
    """
    dw_norm, along_dw = float(torch.linalg.vector_norm(s)), float(torch.linalg.matrix_norm(product))
    return Amplification(
        rank=len(s),
        dw_norm=dw_norm,
        w_norm=w_norm,
        along_dw=along_dw,
        # U^T W V is diagonal for W's own directions.
        along_w=float(torch.linalg.vector_norm(own[: len(s)])),
        along_random=by_chance,
        factor=dw_norm / along_dw if along_dw > 0.0 else None,
        # <dW, W> is the sum of s_i u_i^T W v_i.
        cosine=float(s @ product.diagonal()) / (dw_norm * w_norm) if w_norm > 0.0 else None,
    )


@functools.lru_cache(maxsize=8)
def _random_frames(d_out: int, d_in: int, rank: int) -> tuple[Tensor, Tensor]:
    """DRAWS pairs of frames, DRAWS x d x r each, uniformly distributed as the singular directions of a Gaussian are."""
    generator = Generator().manual_seed(derive_seed(0, "random directions", d_out, d_in, rank))
    u, v = (torch.randn(DRAWS, side, rank, dtype=torch.float64, generator=generator) for side in (d_out, d_in))
    return torch.linalg.qr(u).Q, torch.linalg.qr(v).Q
