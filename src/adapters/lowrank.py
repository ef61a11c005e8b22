"""The LoRA product for a pack of lanes: one base product over all rows, one low-rank term for each block of rows.

For lane k with rows x_k:    h_k = x_k W0^T + b + s_k (x_k A_k^T) B_k^T,    s_k = alpha_k / r_k

(Hu et al. 2021, section 4.1, eq. 3). Written as one autograd function because W0 is frozen: the input is saved once
for all lanes and letters, the terms are accumulated into the base product in place, and nothing is saved for W0.

With DoRA (Liu et al. 2024, arXiv 2402.09353, eq. 5) each output unit has a magnitude m as well:

    h_k = (m_k / n_k) (x_k W0^T + s_k (x_k A_k^T) B_k^T) + b,    n_k = ||W0 + s_k B_k A_k||, over d_in

where n_k is a constant in the gradient (section 4.3). Dropout acts on A's input alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    """An adapter applied to one block of rows.

    Attributes:
        keep: dropout mask, rows x d_in; None for no dropout.
        norms: `adapted_norms` where the adapter has a magnitude, else None.
    """

    block: int
    adapter: LowRank
    keep: Tensor | None
    norms: Tensor | None = None

    @property
    def factor(self) -> float:
        """The scale, and with dropout also the 1 / (1 - p) that keeps the expectation."""
        return self.adapter.scale if self.keep is None else self.adapter.scale / (1.0 - self.adapter.dropout)

    def inputs(self, rows: Tensor) -> Tensor:
        """This block's input after dropout, n x d_in, of `rows` (blocks x n x d_in)."""
        return rows[self.block] if self.keep is None else rows[self.block] * self.keep


def lane_linear(x: Tensor, weight: Tensor, bias: Tensor | None, terms: Sequence[Term], num_blocks: int) -> Tensor:
    """h = x W0^T + b, plus every term on its block of rows and its output units.

    Args:
        x: num_blocks equal blocks of rows, (num_blocks * b) x ... x d_in.
        weight: frozen W0, d_out x d_in (a transposed view will do).
        terms: factors are cast to x's dtype; their gradients come back in their own.
    """
    factors = [tensor for term in terms for tensor in (term.adapter.a, term.adapter.b)]
    magnitudes = [term.adapter.magnitude for term in terms if term.adapter.magnitude is not None]
    result: Tensor = _LaneLinear.apply(x, weight, bias, tuple(terms), num_blocks, *factors, *magnitudes)
    return result


class _LaneLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, terms: tuple[Term, ...], blocks: int, *trained: Tensor
    ) -> Tensor:
        rows = x.reshape(blocks, -1, x.shape[-1])
        factors, magnitudes = trained[: 2 * len(terms)], trained[2 * len(terms) :]
        # A magnitude scales the product, not the bias.
        y = F.linear(rows.flatten(0, 1), weight, None if magnitudes else bias).view(blocks, rows.shape[1], -1)
        casts = [factor.to(x.dtype) for factor in factors]
        lows = []
        for term, a, b in zip(terms, casts[::2], casts[1::2], strict=True):
            low = term.inputs(rows) @ a.T
            _add_term(y[term.block], term, low, b)
            lows.append(low)
        scaled = zip(_with_norms(terms), magnitudes, strict=True)
        plain = [_scale_term(y[term.block], term.adapter.rows, gains(m, norms)) for (term, norms), m in scaled]
        if magnitudes and bias is not None:
            y += bias
        # Masks among the saved tensors, not in the terms, so that whoever counts or moves those finds them.
        ctx.save_for_backward(x, weight, *(term.keep for term in terms), *casts, *lows, *plain, *magnitudes)
        ctx.terms = [dataclasses.replace(term, keep=None) for term in terms]
        ctx.blocks, ctx.dtypes = blocks, [tensor.dtype for tensor in trained]
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *saved = ctx.saved_tensors
        count = len(ctx.terms)
        terms = [dataclasses.replace(term, keep=keep) for term, keep in zip(ctx.terms, saved[:count], strict=True)]
        casts, lows, scaled = saved[count : 3 * count], saved[3 * count : 4 * count], saved[4 * count :]
        rows = x.reshape(ctx.blocks, -1, x.shape[-1])
        grad = grads[0].reshape(ctx.blocks, rows.shape[1], -1)
        grad, grad_magnitudes = _unscale(grad, terms, scaled) if scaled else (grad, [])
        grad_rows = (grad.flatten(0, 1) @ weight).view_as(rows) if ctx.needs_input_grad[0] else None
        grad_factors: list[Tensor | None] = []
        for i, (term, low) in enumerate(zip(terms, lows, strict=True)):
            a, b = casts[2 * i], casts[2 * i + 1]
            out = term.adapter.rows.take(grad[term.block], 1)
            # Written so that the thin factor is the contiguous one: several times faster on CPUs for small r.
            inner = F.linear(out, b.T.contiguous()) * term.factor
            if ctx.needs_input_grad[5 + 2 * i]:
                grad_factors += [inner.T @ term.inputs(rows), (low.T @ out).T.contiguous() * term.factor]
            else:
                grad_factors += [None, None]
            if grad_rows is not None:
                _add_input_grad(grad_rows[term.block], inner, a, term.keep)
        trained = zip([*grad_factors, *grad_magnitudes], ctx.dtypes, strict=True)
        typed = [None if g is None else g.to(dtype) for g, dtype in trained]
        return (None if grad_rows is None else grad_rows.view_as(x), None, None, None, None, *typed)


def _with_norms(terms: Sequence[Term]) -> list[tuple[Term, Tensor]]:
    return [(term, term.norms) for term in terms if term.norms is not None]


def _add_term(y: Tensor, term: Term, low: Tensor, b: Tensor) -> None:
    """Add scale * low B^T to the letter's output units of a block, n x d_out of the whole module."""
    if term.adapter.rows.blocks == 1:
        term.adapter.rows.view(y, 1).addmm_(low, b.T, alpha=term.factor)
    else:
        term.adapter.rows.add_(y, (low @ b.T) * term.factor, 1)


def _scale_term(y: Tensor, rows: Rows, gain: Tensor) -> Tensor:
    """Multiply the letter's output units by m / norm; gives them as they were."""
    plain = rows.take(y, 1).clone()
    # In the magnitude's own precision: in bfloat16 a gain near 1 could not move.
    rows.copy_(y, plain * gain, 1)
    return plain


def _unscale(grad: Tensor, terms: Sequence[Term], saved: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The gradient before the magnitudes were applied, and theirs.

    Args:
        saved: outputs before the magnitudes were applied, then the magnitudes, of each term that has one.
    """
    grad, own, scaled = grad.clone(), [], _with_norms(terms)
    for (term, norms), plain, magnitude in zip(scaled, saved[: len(scaled)], saved[len(scaled) :], strict=True):
        rows, block = term.adapter.rows, grad[term.block]
        out = rows.take(block, 1)
        own.append(gains((out * plain).sum(dim=0, dtype=magnitude.dtype), norms).where(norms > 0, 0.0))
        rows.copy_(block, out * gains(magnitude, norms), 1)
    return grad, own


def _add_input_grad(grad_rows: Tensor, inner: Tensor, a: Tensor, keep: Tensor | None) -> None:
    if keep is None:
        grad_rows.addmm_(inner, a)
    else:
        grad_rows.addcmul_(inner @ a, keep.to(inner.dtype))
