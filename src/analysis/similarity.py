"""Subspace similarity phi (Hu et al. 2021, section 7.2 and appendix G).

phi(A, B, i, j) = ||U_A^i^T U_B^j||_F^2 / min(i, j), in [0, 1]: how much of the span of the first i directions of one
matrix lies in the span of the first j of the other, or the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Every size up to 8, as in figure 3, then ever fewer: what lies between two of them lies between their values.
GRID = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)


def grid_up_to(limit: int) -> tuple[int, ...]:
    """Sizes at which phi is tabulated; `limit` itself is one of them, up to 64."""
    limit = min(limit, GRID[-1])
    return tuple(sorted({size for size in GRID if size <= limit} | ({limit} if limit else set())))


def phi(first: Tensor, second: Tensor, i: Sequence[int], j: Sequence[int]) -> Tensor:
    """phi for all pairs of sizes.

    Args:
        first, second: d x p and d x q with orthonormal columns, the most important first.
        i, j: ascending sizes, at most p and q.

    Returns:
        len(i) x len(j), float64.
    """
    rows, columns = torch.tensor(i), torch.tensor(j)
    overlap = first[:, : i[-1]].double().T @ second[:, : j[-1]].double()
    shared = overlap.square().cumsum(0).cumsum(1)[rows - 1][:, columns - 1]
    smaller = torch.minimum(rows[:, None], columns).to(shared.device)
    return (shared / smaller).clamp(0.0, 1.0)


def random_phi(i: int, j: int, dimension: int) -> float:
    """E[phi] of independent random subspaces: each of i unit vectors has j / d of its square in the other."""
    return max(i, j) / dimension
