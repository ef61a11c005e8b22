"""A frozen linear layer on which each row of a batch may have an adapter of its own, from a pool of many.

All adapters of a letter lie end to end, A as R x d_in and B^T as R x d_out, R the sum of their ranks: mixed ranks need
no padding in memory, and what one adapter or one row of a batch needs is a set of rows of the pool. A mixed batch
gathers these for each of its rows and does two batched products; the idea is that of Punica (Chen et al. 2023, arXiv
2310.18547) and S-LoRA (Sheng et al. 2023, arXiv 2311.03285).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.adapters.lowrank import LowRank, gains
from src.adapters.projections import Projection, is_transposed
from src.adapters.rows import Rows
from src.models.hardware import master_dtype

Names = tuple[str | None, ...]


@dataclass
class Selection:
    """Whose adapters answer; shared by all layers of a bank.

    Attributes:
        names: one name for each row of the batch, or a single one for all rows; None is the base.
    """

    names: Names = (None,)


class Pool:
    """All adapters of one letter; scale * B A, and DoRA's gain m / ||W|| of each output unit where there is one.

    Args:
        projection: the letter.
        like: W0 of its module, for device and precision of the factors.
    """

    def __init__(self, projection: Projection, like: Tensor) -> None:
        self.rows: Rows = projection.rows
        # Row 0 is zero and fills up a shorter adapter where a batch mixes ranks: its product is exactly zero.
        self.a, self.b = like.new_zeros(1, projection.d_in), like.new_zeros(1, projection.d_out)
        self.spans: dict[str, tuple[int, int]] = {}
        self.gains: dict[str, Tensor] = {}
        self._index: tuple[Names, Tensor] | None = None

    def add(self, name: str, adapter: LowRank, weight: Tensor) -> None:
        """Take over an adapter.

        Args:
            weight: W0 of the module, module_out x d_in.
        """
        a, b = adapter.factors()
        self.spans[name] = (len(self.a), len(a))
        self.a = torch.cat([self.a, a.to(self.a)])
        self.b = torch.cat([self.b, (adapter.scale * b).T.to(self.b)])
        if adapter.magnitude is not None:
            plain = self.rows.take(weight, 0).to(master_dtype(weight.dtype)) + adapter.delta().to(weight.device)
            self.gains[name] = gains(adapter.magnitude.detach().to(plain), torch.linalg.vector_norm(plain, dim=1))
        self._index = None

    def remove(self, name: str) -> None:
        """Forget an adapter, and nothing where it is not here."""
        start, rank = self.spans.pop(name, (0, 0))
        self.gains.pop(name, None)
        keep = torch.ones(len(self.a), dtype=torch.bool, device=self.a.device)
        keep[start : start + rank] = False
        self.a, self.b = self.a[keep], self.b[keep]
        self.spans = {n: (at - rank if at > start else at, r) for n, (at, r) in self.spans.items()}
        self._index = None

    def add_terms(self, y: Tensor, x: Tensor, names: Names) -> None:
        """Add each group's scale * (x A^T) B^T to the letter's part of y, and apply its gain.

        Args:
            y: without the bias where there are gains, groups x n x module_out; changed in place.
            x: groups x n x d_in.
            names: of the groups.
        """
        a, b = self._factors(names)
        if a.shape[1]:
            low = torch.bmm(x, a.mT)
            if self.rows.blocks == 1:
                self.rows.view(y, -1).baddbmm_(low, b)
            else:
                self.rows.add_(y, torch.bmm(low, b), -1)
        if any(name in self.gains for name in names):
            self.rows.copy_(y, self.rows.take(y, -1) * self._gain(names), -1)

    def adapted(self, name: str, weight: Tensor) -> Tensor:
        """W of the letter with an adapter, d_out x d_in in the precision of what is trained.

        Args:
            weight: W0 of the module, module_out x d_in.
        """
        a, b = self._factors((name,))
        wide = master_dtype(weight.dtype)
        total = self.rows.take(weight, 0).to(wide) + b[0].T.to(wide) @ a[0].to(wide)
        return total * self.gains[name].unsqueeze(1) if name in self.gains else total

    def num_bytes(self, name: str) -> int:
        """Bytes of one adapter's tensors."""
        _, rank = self.spans.get(name, (0, 0))
        factors = rank * (self.a.shape[1] * self.a.element_size() + self.b.shape[1] * self.b.element_size())
        return factors + (self.gains[name].nbytes if name in self.gains else 0)

    def _factors(self, names: Names) -> tuple[Tensor, Tensor]:
        """A, groups x r x d_in, and B^T, groups x r x d_out, r the largest rank: views for one group, else gathered."""
        if len(names) == 1:
            start, rank = self.spans.get(names[0] or "", (0, 0))
            return self.a[start : start + rank].unsqueeze(0), self.b[start : start + rank].unsqueeze(0)
        index = self._rows_of(names)
        return (
            self.a.index_select(0, index.flatten()).unflatten(0, index.shape),
            self.b.index_select(0, index.flatten()).unflatten(0, index.shape),
        )

    def _rows_of(self, names: Names) -> Tensor:
        """Rows of the pool for each group, int64 groups x r; kept, as one batch meets many layers and steps."""
        if self._index is None or self._index[0] != names:
            starts, ranks = torch.tensor([self.spans.get(name or "", (0, 0)) for name in names]).T
            offsets = torch.arange(int(ranks.max()))
            index = torch.where(offsets < ranks[:, None], starts[:, None] + offsets, 0)
            self._index = names, index.to(self.a.device)
        return self._index[1]

    def _gain(self, names: Names) -> Tensor:
        """groups x 1 x d_out, 1 where an adapter has no magnitude."""
        one = torch.ones_like(next(iter(self.gains.values())))
        return torch.stack([self.gains.get(name or "", one) for name in names]).unsqueeze(1)


class BankLinear(nn.Module):
    """h = x W0^T + b + scale * (x A^T) B^T with the adapter that the selection names for each row.

    Args:
        base: nn.Linear or transformers' Conv1D, frozen.
        selection: shared by all layers.
    """

    def __init__(self, base: nn.Module, selection: Selection) -> None:
        super().__init__()
        self.base = base
        self.selection = selection
        self.pools: dict[str, Pool] = {}
        self._unmerged: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """W0 as a d_out x d_in view, however the layer stores it."""
        weight = self.base.weight
        assert isinstance(weight, Tensor)
        return weight.T if is_transposed(self.base) else weight

    def add(self, name: str, projection: Projection, adapter: LowRank) -> None:
        """Attach an adapter of one letter."""
        if projection.key not in self.pools:
            self.pools[projection.key] = Pool(projection, self.weight)
        self.pools[projection.key].add(name, adapter, self.weight)

    def remove(self, name: str) -> None:
        """Forget an adapter in all letters."""
        for pool in self.pools.values():
            pool.remove(name)

    def forward(self, x: Tensor) -> Tensor:
        """Args:
        x: equally many rows for each name of the selection, in order, (names * b) x ... x d_in.
        """
        names, bias = self.selection.names, self.base.bias
        assert bias is None or isinstance(bias, Tensor)
        pools = [pool for pool in self.pools.values() if any(name in pool.spans for name in names)]
        scaled = any(name in pool.gains for pool in pools for name in names)
        grouped = x.reshape(len(names), -1, x.shape[-1])
        # A magnitude scales the product, not the bias.
        y = F.linear(grouped, self.weight, None if scaled else bias)
        for pool in pools:
            pool.add_terms(y, grouped, names)
        if scaled and bias is not None:
            y += bias
        return y.view(*x.shape[:-1], -1)

    @torch.no_grad()
    def merge(self, name: str) -> None:
        """Put the adapted weight in W0's place; W0 is kept for `unmerge` where it changes."""
        pools = [pool for pool in self.pools.values() if name in pool.spans]
        if pools:
            self._unmerged = self.weight.clone()
            for pool in pools:
                pool.rows.copy_(self.weight, pool.adapted(name, self._unmerged), 0)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put W0 back, bit for bit."""
        if self._unmerged is not None:
            self.weight.copy_(self._unmerged)
            self._unmerged = None


def pools_of(layers: Sequence[BankLinear]) -> list[Pool]:
    """All letters' pools."""
    return [pool for layer in layers for pool in layer.pools.values()]
