"""Spectra, subspace similarity and amplification of many adapters of one matrix: from thin factors, and dense.

Dense is what one writes without a thought for the factors: delta W = s B A as a matrix, its whole SVD, then the first r
directions of it. Its similarities are cumulative sums as ours are, and it cuts to r directions before it multiplies, so
what is compared is the decomposition and the batching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Generator, Tensor, nn

from src.adapters.lowrank import LowRank
from src.adapters.rows import Rows
from src.analysis.amplification import projected
from src.analysis.similarity import pairwise_phi
from src.analysis.thin import Svd, delta_svds
from src.errors import HarnessError
from src.spec.seeds import derive_seed

# Of a difference: spectra relative to the largest singular value, amplification to itself, phi as it is.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}


@dataclass(frozen=True)
class Subjects:
    """Adapters of one square matrix.

    Attributes:
        weight: W, d x d.
        adapters: in the same precision as W.
        dense: how many of them, the first, are also decomposed as matrices.
    """

    weight: Tensor
    adapters: tuple[LowRank, ...]
    dense: int

    @property
    def pairs(self) -> int:
        return len(self.adapters) * (len(self.adapters) - 1) // 2

    @property
    def dense_pairs(self) -> int:
        return self.dense * (self.dense - 1) // 2


def draw(d: int, ranks: Sequence[int], dense: int, dtype: torch.dtype, device: torch.device) -> Subjects:
    """Adapters of these ranks with alpha = 16: A uniform as at the start, B Gaussian with columns of falling size."""
    generator = Generator().manual_seed(derive_seed(0, "spectral benchmark", d))

    def drawn(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64) / d**0.5

    def adapter(rank: int) -> LowRank:
        a = (torch.rand(rank, d, generator=generator, dtype=torch.float64) * 2 - 1) / d**0.5
        b = drawn(d, rank) / torch.arange(1, rank + 1)
        own = [nn.Parameter(factor.to(device, dtype), requires_grad=False) for factor in (a, b)]
        return LowRank(own[0], own[1], 16.0 / rank, Rows(0, d), 0.0)

    return Subjects(drawn(d, d).to(device, dtype), tuple(adapter(rank) for rank in ranks), dense)


class Thin:
    """src/analysis on all adapters."""

    def __init__(self, subjects: Subjects) -> None:
        self.subjects = subjects
        self.deltas: list[Svd] = self.spectra()
        self._wide = subjects.weight.double()
        self._vectors = torch.cat([delta.v for delta in self.deltas], dim=1)

    def spectra(self) -> list[Svd]:
        """delta W's SVD of every adapter."""
        return delta_svds(self.subjects.adapters)

    def phi(self) -> dict[tuple[int, int], Tensor]:
        """All sizes of all pairs, by their places."""
        return pairwise_phi([delta.v for delta in self.deltas])

    def amplification(self) -> list[float]:
        """|dW|_F / |U^T W V|_F of every adapter."""
        weight = self.subjects.weight.double()
        products = projected([delta.u for delta in self.deltas], weight, [delta.v for delta in self.deltas])
        lengths = [torch.linalg.vector_norm(delta.s) for delta in self.deltas]
        along = [torch.linalg.matrix_norm(product) for product in products]
        found: list[float] = (torch.stack(lengths) / torch.stack(along)).tolist()
        return found

    def product(self) -> Tensor:
        """W times all directions and nothing else: no way to the amplifications does with less."""
        return self._wide @ self._vectors


class Dense:
    """Matrices of d x d, on the first adapters; in the precision of the factors throughout."""

    def __init__(self, subjects: Subjects) -> None:
        self.subjects = subjects
        self.triplets = self.spectra()

    def spectra(self) -> list[Svd]:
        """The whole SVD, of which the first r triplets are kept."""
        found = []
        for adapter in self.subjects.adapters[: self.subjects.dense]:
            u, s, vh = torch.linalg.svd(adapter.delta(), full_matrices=False)
            rank = len(adapter.a)
            found.append(Svd(u[:, :rank].clone(), s[:rank].clone(), vh[:rank].T.clone()))
        return found

    def phi(self) -> dict[tuple[int, int], Tensor]:
        """All sizes, pair by pair, by their places."""
        pairs = combinations(range(len(self.triplets)), 2)
        return {(k, m): _phi(self.triplets[k].v, self.triplets[m].v) for k, m in pairs}

    def amplification(self) -> list[float]:
        """|dW|_F / |U^T W V|_F, adapter by adapter."""
        return [
            float(torch.linalg.vector_norm(one.s) / torch.linalg.matrix_norm(one.u.T @ self.subjects.weight @ one.v))
            for one in self.triplets
        ]


def check(thin: Thin, dense: Dense) -> str:
    """Compare all that both have, and say how far they are apart.

    Raises:
        HarnessError: further than TOLERANCE.
    """
    limit = TOLERANCE[thin.subjects.weight.dtype]
    phi = thin.phi()
    both = list(zip(thin.deltas, dense.triplets, strict=False))
    apart = {
        "spectra": max(float(((a.s - b.s).abs() / b.s[0]).max()) for a, b in both),
        "phi": max(float((phi[pair] - own).abs().max()) for pair, own in dense.phi().items()),
        "amplification": max(
            abs(a / b - 1.0) for a, b in zip(thin.amplification(), dense.amplification(), strict=False)
        ),
    }
    found = ", ".join(f"{name} {value:.1e}" for name, value in apart.items())
    if not all(value <= limit for value in apart.values()):
        raise HarnessError(f"Thin and dense analysis differ: {found}; at most {limit:g} is allowed. Nothing was timed.")
    return found


def _phi(first: Tensor, second: Tensor) -> Tensor:
    """||V_1^T V_2||_F^2 / min(i, j) of the first i and j directions, for all i and j."""
    shared = (first.T @ second).square().cumsum(0).cumsum(1)
    i, j = (torch.arange(1, size + 1, device=first.device) for size in shared.shape)
    return shared / torch.minimum(i[:, None], j)
