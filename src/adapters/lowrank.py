"""The LoRA product for a pack of lanes: one base product over all rows, one low-rank term for each block of rows.

For lane k with rows x_k:    h_k = x_k W0^T + b + s_k (x_k A_k^T) B_k^T,    s_k = alpha_k / r_k

(Hu et al. 2021, section 4.1, eq. 3). Written as one autograd function because W0 is frozen: the input is saved once
for all lanes and letters, the terms are accumulated into the base product in place, and nothing is saved for W0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class LowRank:
    """One lane's adapter on one projection: delta W = scale * B A.

    Attributes:
        a: A, r x d_in.
        b: B, d_out x r.
        scale: alpha / r.
        start: first output unit of the slice it adds to.
        dropout: probability of dropping an element of A's input.
    """

    a: nn.Parameter
    b: nn.Parameter
    scale: float
    start: int
    dropout: float

    def delta(self) -> Tensor:
        """delta W, d_out x d_in, in the factors' own precision."""
        return self.scale * (self.b.detach() @ self.a.detach())


@dataclass(frozen=True)
class Term:
    """An adapter applied to one block of rows; `keep` is the dropout mask (rows x d_in), None for no dropout."""

    block: int
    adapter: LowRank
    keep: Tensor | None

    @property
    def outputs(self) -> slice:
        """Output units that the term adds to."""
        return slice(self.adapter.start, self.adapter.start + self.adapter.b.shape[0])

    @property
    def factor(self) -> float:
        """The scale, and with dropout also the 1 / (1 - p) that keeps the expectation."""
        return self.adapter.scale if self.keep is None else self.adapter.scale / (1.0 - self.adapter.dropout)

    def inputs(self, rows: Tensor) -> Tensor:
        """This block's input after dropout, n x d_in, of `rows` (blocks x n x d_in)."""
        return rows[self.block] if self.keep is None else rows[self.block] * self.keep


def lane_linear(x: Tensor, weight: Tensor, bias: Tensor | None, terms: Sequence[Term], num_blocks: int) -> Tensor:
    """h = x W0^T + b, plus every term on its block of rows and slice of outputs.

    Args:
        x: num_blocks equal blocks of rows, (num_blocks * b) x ... x d_in.
        weight: frozen W0, d_out x d_in (a transposed view will do).
        terms: factors are cast to x's dtype; their gradients come back in their own.
    """
    factors = [tensor for term in terms for tensor in (term.adapter.a, term.adapter.b)]
    result: Tensor = _LaneLinear.apply(x, weight, bias, tuple(terms), num_blocks, *factors)
    return result


class _LaneLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, terms: tuple[Term, ...], blocks: int, *factors: Tensor
    ) -> Tensor:
        rows = x.reshape(blocks, -1, x.shape[-1])
        y = F.linear(rows.flatten(0, 1), weight, bias).view(blocks, rows.shape[1], -1)
        casts = [factor.to(x.dtype) for factor in factors]
        lows = []
        for term, a, b in zip(terms, casts[::2], casts[1::2], strict=True):
            low = term.inputs(rows) @ a.T
            y[term.block, :, term.outputs].addmm_(low, b.T, alpha=term.factor)
            lows.append(low)
        ctx.save_for_backward(x, weight, *casts, *lows)
        ctx.terms, ctx.blocks, ctx.dtypes = terms, blocks, [factor.dtype for factor in factors]
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *saved = ctx.saved_tensors
        terms, count = ctx.terms, 2 * len(ctx.terms)
        casts, lows = saved[:count], saved[count:]
        rows = x.reshape(ctx.blocks, -1, x.shape[-1])
        grad = grads[0].reshape(ctx.blocks, rows.shape[1], -1)
        grad_rows = (grad.flatten(0, 1) @ weight).view_as(rows) if ctx.needs_input_grad[0] else None
        grad_factors: list[Tensor] = []
        for term, a, b, low in zip(terms, casts[::2], casts[1::2], lows, strict=True):
            out = grad[term.block, :, term.outputs]
            # Written so that the thin factor is the contiguous one: several times faster on CPUs for small r.
            inner = F.linear(out, b.T.contiguous()) * term.factor
            grad_b = (low.T @ out).T.contiguous() * term.factor
            grad_factors += [inner.T @ term.inputs(rows), grad_b]
            if grad_rows is not None:
                _add_input_grad(grad_rows[term.block], inner, a, term.keep)
        typed = [g.to(dtype) for g, dtype in zip(grad_factors, ctx.dtypes, strict=True)]
        return (None if grad_rows is None else grad_rows.view_as(x), None, None, None, None, *typed)


def _add_input_grad(grad_rows: Tensor, inner: Tensor, a: Tensor, keep: Tensor | None) -> None:
    if keep is None:
        grad_rows.addmm_(inner, a)
    else:
        grad_rows.addcmul_(inner @ a, keep.to(inner.dtype))
