"""The LoRA product for a pack of lanes: one base product over all rows, one low-rank term for each lane's rows.

For lane k with rows x_k:    h_k = x_k W0^T + b + s_k (x_k A_k^T) B_k^T,    s_k = alpha_k / r_k

(Hu et al. 2021, section 4.1, eq. 3). Written as one autograd function because W0 is frozen: the input is saved once
for all lanes and letters, the terms are accumulated into the base product in place, and nothing is saved for W0. Terms
of lanes with equally many rows and like ranks are computed as one batched product.

With DoRA (Liu et al. 2024, arXiv 2402.09353, eq. 5) each output unit has a magnitude m as well:

    h_k = (m_k / n_k) (x_k W0^T + s_k (x_k A_k^T) B_k^T) + b,    n_k = ||W0 + s_k B_k A_k||, over d_in

where n_k is a constant in the gradient (section 4.3). Dropout acts on A's input alone.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from src.adapters.lowrank import Term, gains
from src.adapters.products import product
from src.adapters.rows import Rows

# Ranks up to this share a batched product, the lower ones padded with zeros: its time is that of reading x.
LOW_RANK = 16


def lane_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, terms: Sequence[Term], *, batched: bool | None = None
) -> Tensor:
    """h = x W0^T + b, plus every term on its rows and its output units.

    Args:
        x: ... x d_in; rows are counted over all dimensions but the last.
        weight: frozen W0, d_out x d_in (a transposed view will do).
        terms: factors are cast to x's dtype; their gradients come back in their own.
        batched: whether lanes may share a product; None: on GPUs, and on CPUs in bfloat16. In float32 oneDNN has no
            batched product that torch would use, and one after another a lane's numbers are the same to the last bit
            whatever its company.
    """
    if batched is None:
        batched = x.device.type != "cpu" or x.dtype == torch.bfloat16
    groups = tuple(_groups(terms, batched=batched))
    factors = [tensor for term in terms for tensor in (term.adapter.a, term.adapter.b)]
    magnitudes = [term.adapter.magnitude for term in terms if term.adapter.magnitude is not None]
    result: Tensor = _LaneLinear.apply(x, weight, bias, tuple(terms), groups, *factors, *magnitudes)
    return result


@dataclass(frozen=True)
class _Group:
    """Terms of one letter whose lanes' rows are equally many and equally far apart.

    Attributes:
        members: places of `terms` among all terms.
    """

    terms: tuple[Term, ...]
    members: tuple[int, ...]

    @property
    def rows(self) -> Rows:
        """Output units of the letter."""
        return self.terms[0].adapter.rows

    def of(self, rows: Tensor) -> Tensor:
        """The lanes' parts of all rows, K x n x d; a view."""
        start, stop = self.terms[0].span
        step = self.terms[1].span[0] - start if len(self.terms) > 1 else 0
        across, along = rows.stride()
        shape, strides = (len(self.terms), stop - start, rows.shape[1]), (step * across, across, along)
        return rows.as_strided(shape, strides, rows.storage_offset() + start * across)

    def inputs(self, rows: Tensor, keep: Tensor | None) -> Tensor:
        """The lanes' inputs after dropout, K x n x d_in."""
        return self.of(rows) if keep is None else self.of(rows) * self.of(keep)

    def stacks(self, factors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A, K x r x d_in, and B times its scale, K x d_out x r, with zeros up to the highest rank."""
        pairs = [(factors[2 * i], factors[2 * i + 1] * self.terms[k].factor) for k, i in enumerate(self.members)]
        rank = max(len(down) for down, _ in pairs)
        downs = [down if len(down) == rank else F.pad(down, (0, 0, 0, rank - len(down))) for down, _ in pairs]
        ups = [up if len(down) == rank else F.pad(up, (0, rank - len(down))) for down, up in pairs]
        return _stack(downs).to(dtype), _stack(ups).to(dtype)

    def add(self, y: Tensor, low: Tensor, up: Tensor) -> None:
        """Add low B^T to the letter's output units of the lanes' rows."""
        if self.rows.blocks > 1:
            self.rows.add_(self.of(y), _product(low, up), 2)
        else:
            _add_product(self.rows.view(self.of(y), 2), low, up)


class _LaneLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        terms: tuple[Term, ...],
        groups: tuple[_Group, ...],
        *trained: Tensor,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        factors, magnitudes = trained[: 2 * len(terms)], trained[2 * len(terms) :]
        # A magnitude scales the product, not the bias.
        y = product(rows, weight, None if magnitudes else bias)
        masks = [group.terms[0].keep for group in groups]
        thin: list[Tensor] = []
        for group, keep in zip(groups, masks, strict=True):
            down, up = group.stacks(factors, x.dtype)
            low = _product(group.inputs(rows, keep), down)
            group.add(y, low, up)
            thin += [down, up, low]
        scaled = zip(_with_norms(terms), magnitudes, strict=True)
        plain = [_scale_term(term.of(y), term.adapter.rows, gains(m, norms)) for (term, norms), m in scaled]
        if magnitudes and bias is not None:
            y += bias
        # Masks among the saved tensors, not in the terms, so that whoever counts or moves those finds them.
        ctx.save_for_backward(x, weight, *masks, *thin, *plain, *magnitudes)
        ctx.terms = [term if term.keep is None else dataclasses.replace(term, keep=None) for term in terms]
        ctx.groups = [dataclasses.replace(group, terms=tuple(ctx.terms[i] for i in group.members)) for group in groups]
        # A term that lost its mask would also lose what the mask does to its scale.
        ctx.scales = [term.factor for term in terms]
        ctx.dtypes = [tensor.dtype for tensor in trained]
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *saved = ctx.saved_tensors
        count = len(ctx.groups)
        masks, thin, scaled = saved[:count], saved[count : 4 * count], saved[4 * count :]
        rows = x.reshape(-1, x.shape[-1])
        grad = grads[0].reshape(len(rows), -1)
        grad, grad_magnitudes = _unscale(grad, ctx.terms, scaled) if scaled else (grad, [])
        grad_rows = product(grad, weight.T) if ctx.needs_input_grad[0] else None
        grad_factors: list[Tensor | None] = [None] * (2 * len(ctx.terms))
        for number, group in enumerate(ctx.groups):
            keep, (down, up, low) = masks[number], thin[3 * number : 3 * number + 3]
            out = group.rows.take(group.of(grad), 2)
            inner = _product(out, up.transpose(1, 2))
            if ctx.needs_input_grad[5 + 2 * group.members[0]]:
                downs = _product(inner.transpose(1, 2), group.inputs(rows, keep).transpose(1, 2))
                # r x d_out first: with the long side last it takes a multiple of the time.
                ups = _product(low.transpose(1, 2), out.transpose(1, 2)).transpose(1, 2)
                for k, i in enumerate(group.members):
                    rank = len(group.terms[k].adapter.a)
                    grad_factors[2 * i] = downs[k, :rank]
                    grad_factors[2 * i + 1] = ups[k, :, :rank] * ctx.scales[i]
            if grad_rows is not None:
                _add_input_grad(group.of(grad_rows), inner, down, None if keep is None else group.of(keep))
        trained = zip([*grad_factors, *grad_magnitudes], ctx.dtypes, strict=True)
        typed = [None if g is None else g.to(dtype) for g, dtype in trained]
        return (None if grad_rows is None else grad_rows.view_as(x), None, None, None, None, *typed)


def _groups(terms: Sequence[Term], *, batched: bool) -> list[_Group]:
    """All terms; in one group those of one letter, equally many rows and like ranks, or each in a group of its own."""
    alike: dict[Any, list[int]] = defaultdict(list)
    for i, term in enumerate(terms):
        rank, size = len(term.adapter.a), term.span[1] - term.span[0]
        trains = term.adapter.a.requires_grad
        key = (term.adapter.rows, size, max(rank, LOW_RANK), id(term.keep), trains)
        alike[key if batched else i].append(i)
    return [
        _Group(tuple(terms[i] for i in run), run) for members in alike.values() for run in _even_runs(members, terms)
    ]


def _even_runs(members: Sequence[int], terms: Sequence[Term]) -> list[tuple[int, ...]]:
    """Members in runs whose lanes' first rows are equally far apart."""
    runs: list[list[int]] = []
    for i in members:
        start, last = terms[i].span[0], runs[-1] if runs else []
        starts = [terms[j].span[0] for j in last[-2:]]
        if last and (len(starts) < 2 or start - starts[-1] == starts[-1] - starts[-2]):
            last.append(i)
        else:
            runs.append([i])
    return [tuple(run) for run in runs]


def _stack(parts: Sequence[Tensor]) -> Tensor:
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(list(parts))


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T for each of K: K x n x i and K x o x i to K x n x o."""
    return product(x[0], weight[0]).unsqueeze(0) if len(x) == 1 else torch.bmm(x, weight.transpose(1, 2))


def _add_product(y: Tensor, x: Tensor, weight: Tensor) -> None:
    """The same, added to y in place."""
    if len(x) == 1:
        y[0].addmm_(x[0], weight[0].T)
    else:
        y.baddbmm_(x, weight.transpose(1, 2))


def _with_norms(terms: Sequence[Term]) -> list[tuple[Term, Tensor]]:
    return [(term, term.norms) for term in terms if term.norms is not None]


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
        rows, block = term.adapter.rows, term.of(grad)
        out = rows.take(block, 1)
        own.append(gains((out * plain).sum(dim=0, dtype=magnitude.dtype), norms).where(norms > 0, 0.0))
        rows.copy_(block, out * gains(magnitude, norms), 1)
    return grad, own


def _add_input_grad(grad_rows: Tensor, inner: Tensor, down: Tensor, keep: Tensor | None) -> None:
    """Add what reaches the lanes' inputs through A, K x n x d_in."""
    if keep is None:
        _add_product(grad_rows, inner, down.transpose(1, 2))
    else:
        grad_rows += _product(inner, down.transpose(1, 2)).mul_(keep)
