"""Intruder dimensions (Shuttleworth et al. 2024, arXiv 2410.21228, algorithm 1).

Of the top k left-singular vectors of W0 + delta W, those whose cosine with every left-singular vector of W0 stays
below a threshold. The k triplets come from Lanczos iterations to machine precision, in which W0 + delta W is only
ever applied to a vector, as W0 x + s B (A x); the sum is formed only where W0 is hardly larger than k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor

from src.adapters.lowrank import LowRank
from src.analysis.thin import Svd

EXAMINED = 10
THRESHOLD = 0.5


def count_intruders(
    adapter: LowRank, weight: Tensor, base: Svd, examined: int = EXAMINED, threshold: float = THRESHOLD
) -> tuple[int, int]:
    """How many of the vectors examined are intruders.

    Args:
        weight: W0, d_out x d_in.
        base: its SVD, all min(d_out, d_in) triplets.
        examined: k.

    Returns:
        Vectors examined (k, at most all there are), and how many of them are intruders.
    """
    examined = min(examined, *weight.shape)
    adapted = top_left_vectors(adapter, weight, examined)
    closest = (base.u.double().cpu().T @ adapted).abs().amax(dim=0)
    return examined, int((closest < threshold).sum())


def top_left_vectors(adapter: LowRank, weight: Tensor, k: int) -> Tensor:
    """The k leading left-singular vectors of W0 + delta W as columns, d_out x k in float64 on the CPU."""
    w = weight.double().cpu()
    a, b = adapter.a.detach().double().cpu(), adapter.b.detach().double().cpu()
    if min(w.shape) <= 4 * k:  # Lanczos needs room, and so small a problem is dense in any case
        u, _, _ = torch.linalg.svd(torch.addmm(w, b, a, alpha=adapter.scale), full_matrices=False)
        return u[:, :k]
    start = np.random.default_rng(0).standard_normal(min(w.shape))
    u, s, _ = svds(_operator(w.numpy(), a.numpy(), b.numpy(), adapter.scale), k=k, v0=start)
    return torch.from_numpy(u[:, np.argsort(-s)].copy())


def _operator(w: np.ndarray, a: np.ndarray, b: np.ndarray, scale: float) -> Any:
    return LinearOperator(
        w.shape,
        matvec=lambda x: w @ x + scale * (b @ (a @ x)),
        rmatvec=lambda y: w.T @ y + scale * (a.T @ (b.T @ y)),
        dtype=np.dtype(np.float64),
    )
