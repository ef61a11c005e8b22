"""Subspace similarity phi (Hu et al. 2021, section 7.2 and appendix G).

phi(A, B, i, j) = ||U_A^i^T U_B^j||_F^2 / min(i, j), in [0, 1]: how much of the span of the first i directions of one
matrix lies in the span of the first j of the other, or the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor

# Every size up to 8, as in figure 3, then ever fewer: what lies between two of them lies between their values.
GRID = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
# Of one product of stacked directions: its square has room in the processor's cache.
COLUMNS = 512


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
    whole = all_phi(first[:, : i[-1]].double().unsqueeze(0), second[:, : j[-1]].double().unsqueeze(0))[0, 0]
    return whole[rows - 1][:, columns - 1]


def all_phi(first: Tensor, second: Tensor) -> Tensor:
    """phi at every pair of sizes, of each member of one stack with each of another, from one product.

    Args:
        first, second: n x d x p and m x d x q with orthonormal columns, the most important first.

    Returns:
        n x m x p x q; entry [k, l, i - 1, j - 1] is phi(i, j) of first[k] and second[l].
    """
    (n, d, p), (m, _, q) = first.shape, second.shape
    overlap = first.transpose(0, 1).reshape(d, n * p).T @ second.transpose(0, 1).reshape(d, m * q)
    shared = overlap.view(n, p, m, q).square_().cumsum(1).cumsum(3)
    rows, columns = (torch.arange(1, size + 1, device=first.device) for size in (p, q))
    return shared.div_(torch.minimum(rows[:, None, None], columns)).clamp_(0.0, 1.0).transpose(1, 2)


def pairwise_phi(frames: Sequence[Tensor]) -> dict[tuple[int, int], Tensor]:
    """phi at every pair of sizes of all pairs of frames, those of equally many directions multiplied together.

    Args:
        frames: d x p each, of one d and any p, with orthonormal columns, the most important first.

    Returns:
        By places (k, l) with k < l: p of frames[k] x p of frames[l]; entry [i - 1, j - 1] is phi(i, j).
    """
    found: dict[tuple[int, int], Tensor] = {}
    blocks = [(places, torch.stack([frames[place] for place in places])) for places in _blocks(frames)]
    for (rows, first), (columns, second) in combinations_with_replacement(blocks, 2):
        for k, values in zip(rows, all_phi(first, second).unbind(0), strict=True):
            for m, value in zip(columns, values.unbind(0), strict=True):
                if k < m:
                    found[k, m] = value
                elif rows is not columns:
                    found[m, k] = value.T
    return found


def _blocks(frames: Sequence[Tensor]) -> list[list[int]]:
    """Places of frames of one size, so many together that they have about COLUMNS columns."""
    by_size: dict[int, list[int]] = {}
    for place, frame in enumerate(frames):
        by_size.setdefault(frame.shape[1], []).append(place)
    steps = {size: max(1, COLUMNS // max(1, size)) for size in by_size}
    return [
        places[start : start + steps[size]]
        for size, places in by_size.items()
        for start in range(0, len(places), steps[size])
    ]


def random_phi(i: int, j: int, dimension: int) -> float:
    """E[phi] of independent random subspaces: each of i unit vectors has j / d of its square in the other."""
    return max(i, j) / dimension
