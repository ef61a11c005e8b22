"""One lane's adapter on one projection, and its application to that lane's rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.adapters.rows import Rows


@dataclass(frozen=True)
class LowRank:
    """One lane's adapter on one projection: delta W = scale * B A, less what it started from.

    Attributes:
        a: A, r x d_in.
        b: B, d_out x r.
        scale: alpha / r, or alpha / sqrt(r) with rsLoRA.
        rows: output units that it adds to.
        dropout: probability of dropping an element of A's input.
        magnitude: m of DoRA, d_out; None without.
        origin: PiSSA's start with the negative scale and without dropout, frozen, so that W0 loses what the adapter
            begins with; None for adapters that start at delta W = 0.
    """

    a: nn.Parameter
    b: nn.Parameter
    scale: float
    rows: Rows
    dropout: float
    magnitude: nn.Parameter | None = None
    origin: LowRank | None = None

    @property
    def parts(self) -> tuple[LowRank, ...]:
        """The low-rank terms in the order in which they are added; a magnitude comes after both."""
        return (self,) if self.origin is None else (self.origin, self)

    def to(self, device: torch.device, dtype: torch.dtype) -> LowRank:
        """A copy with parameters of its own."""

        def copy(value: nn.Parameter) -> nn.Parameter:
            return nn.Parameter(value.detach().to(device, dtype, copy=True), requires_grad=value.requires_grad)

        magnitude = None if self.magnitude is None else copy(self.magnitude)
        origin = None if self.origin is None else self.origin.to(device, dtype)
        return dataclasses.replace(self, a=copy(self.a), b=copy(self.b), magnitude=magnitude, origin=origin)

    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B of rank r, or 2 r with an origin, such that scale * B A is delta W (but for DoRA's magnitude)."""
        a, b = self.a.detach(), self.b.detach()
        if self.origin is None:
            return a, b
        return torch.cat([a, self.origin.a.detach()]), torch.cat([b, -self.origin.b.detach()], dim=1)

    def delta(self) -> Tensor:
        """scale * B A less its origin, d_out x d_in, in the factors' own precision."""
        a, b = self.factors()
        return self.scale * (b @ a)

    def adapted(self, weight: Tensor) -> Tensor:
        """W of the letter with the adapter, from W0 (d_out x d_in), in the wider precision of the two."""
        total = weight.to(torch.promote_types(weight.dtype, self.a.dtype)) + self.delta()
        if self.magnitude is None:
            return total
        return total * gains(self.magnitude.detach(), torch.linalg.vector_norm(total, dim=1)).unsqueeze(1)


def adapted_norms(adapter: LowRank, weight: Tensor, squares: Tensor) -> Tensor:
    """||W0 + scale * B A|| of each output unit, from the factors: nothing of the size of W0 is formed.

    Args:
        weight: W0 of the letter, d_out x d_in.
        squares: its squared norms, d_out.
    """
    a, b = adapter.factors()
    cross = ((weight @ a.T.to(weight.dtype)).to(b.dtype) * b).sum(dim=1)
    own = ((b @ (a @ a.T)) * b).sum(dim=1)
    return (squares + 2 * adapter.scale * cross + adapter.scale**2 * own).clamp_min(0).sqrt()


def gains(magnitude: Tensor, norms: Tensor) -> Tensor:
    """m / norm of each output unit; 1 where W is zero, which no magnitude can stretch."""
    return torch.where(norms > 0, magnitude / norms, 1.0)


@dataclass(frozen=True)
class Term:
    """An adapter applied to its lane's rows.

    Attributes:
        span: the lane's first row, and the one after its last.
        keep: dropout mask of all lanes' rows, uint8 [T, d_in], 1 where an element is kept; None for no dropout.
        norms: `adapted_norms` where the adapter has a magnitude, else None.
    """

    span: tuple[int, int]
    adapter: LowRank
    keep: Tensor | None
    norms: Tensor | None = None

    @property
    def factor(self) -> float:
        """The scale, and with dropout also the 1 / (1 - p) that keeps the expectation."""
        return self.adapter.scale if self.keep is None else self.adapter.scale / (1.0 - self.adapter.dropout)

    def of(self, rows: Tensor) -> Tensor:
        """The lane's part of all rows, a view."""
        return rows[self.span[0] : self.span[1]]
