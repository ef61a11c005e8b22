"""The packed product against plain algebra written out lane by lane."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src.adapters.lane_linear import lane_linear
from src.adapters.lowrank import LowRank, Term, adapted_norms
from src.adapters.rows import Rows

SPANS = ((0, 6), (6, 12), (12, 18))


def make_terms(generator: torch.Generator, *, dropout: float = 0.0) -> list[Term]:
    """Three lanes of 2 x 3 rows on a fused 12-wide output: ranks 1, 2, 3; lane 0 has two slices, lane 1 none."""
    shapes = [(0, 1, 0, 4), (0, 2, 8, 4), (2, 3, 4, 8)]
    terms = []
    for block, rank, start, d_out in shapes:
        a = nn.Parameter(torch.randn(rank, 5, generator=generator, dtype=torch.float64))
        b = nn.Parameter(torch.randn(d_out, rank, generator=generator, dtype=torch.float64))
        keep = (torch.rand(18, 5, generator=generator) > dropout).byte() if dropout else None
        terms.append(Term(SPANS[block], LowRank(a, b, 2.0 / rank, Rows(start, d_out), dropout), keep))
    return terms


def dense(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, terms: list[Term]) -> torch.Tensor:
    rows = x.reshape(3, 6, 5)
    blocks = [row @ weight.T + bias for row in rows]
    for term in terms:
        keep = 1.0 if term.keep is None else term.of(term.keep).double() / (1 - term.adapter.dropout)
        delta = torch.zeros(12, 5, dtype=x.dtype)
        delta[term.adapter.rows.index()] = term.adapter.scale * term.adapter.b @ term.adapter.a
        block = SPANS.index(term.span)
        blocks[block] = blocks[block] + (rows[block] * keep) @ delta.T
    return torch.stack(blocks).reshape(*x.shape[:-1], 12)


@pytest.fixture
def parts() -> tuple[torch.Generator, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(12, generator=generator, dtype=torch.float64)
    return generator, x, weight, bias


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_outputs_and_gradients_equal_the_dense_form(parts, dropout):
    generator, x, weight, bias = parts
    terms = make_terms(generator, dropout=dropout)
    leaves = [x, *(p for t in terms for p in (t.adapter.a, t.adapter.b))]
    ours, theirs = lane_linear(x, weight, bias, terms), dense(x, weight, bias, terms)
    probe = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for got, want in zip(
        torch.autograd.grad((ours * probe).sum(), leaves),
        torch.autograd.grad((theirs * probe).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_gradcheck(parts):
    generator, x, weight, bias = parts
    terms = make_terms(generator)
    factors = [p for t in terms for p in (t.adapter.a, t.adapter.b)]
    # gradcheck perturbs the leaves in place, and the terms hold the very same tensors.
    assert torch.autograd.gradcheck(lambda x, *_: lane_linear(x, weight, bias, terms, batched=True), (x, *factors))


def test_transposed_weight_and_missing_bias(parts):
    generator, x, weight, bias = parts
    terms = make_terms(generator)
    stored = weight.T.contiguous()
    torch.testing.assert_close(lane_linear(x, stored.T, None, terms), dense(x, weight, torch.zeros_like(bias), terms))


def test_frozen_input_gets_no_gradient_but_factors_do(parts):
    generator, x, weight, bias = parts
    terms = make_terms(generator)
    lane_linear(x.detach(), weight, bias, terms).sum().backward()
    assert all(p.grad is not None for t in terms for p in (t.adapter.a, t.adapter.b))


def test_zero_padded_rank_is_exact(parts):
    generator, x, weight, bias = parts
    small = make_terms(generator)[2]
    a, b = small.adapter.a.detach(), small.adapter.b.detach()
    wide = LowRank(
        nn.Parameter(torch.cat([a, torch.zeros(4, 5, dtype=a.dtype)])),
        nn.Parameter(torch.cat([b, torch.zeros(8, 4, dtype=b.dtype)], dim=1)),
        small.adapter.scale,
        small.adapter.rows,
        0.0,
    )
    padded = lane_linear(x, weight, bias, [Term(SPANS[2], wide, None)])
    torch.testing.assert_close(padded, lane_linear(x, weight, bias, [small]))
    padded.square().sum().backward()
    assert wide.a.grad is not None and wide.b.grad is not None
    assert not wide.a.grad[3:].any() and not wide.b.grad[:, 3:].any()


def test_a_lane_with_nan_leaves_the_others_bitwise_unchanged(parts):
    generator, x, weight, bias = parts
    terms = make_terms(generator)
    before = lane_linear(x, weight, bias, terms)
    with torch.no_grad():
        terms[2].adapter.b.fill_(float("nan"))
    after = lane_linear(x, weight, bias, terms)
    assert torch.equal(before[:4], after[:4]) and after[4:].isnan().any()


def dora_terms(weight: torch.Tensor, generator: torch.Generator) -> list[Term]:
    """Lane 0: a magnitude on a slice, dropout and an origin; lane 2: interleaved rows with a magnitude and without."""

    def factor(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

    def term(block: int, rows: Rows, rank: int, *, magnitude: bool, origin: bool = False) -> list[Term]:
        start = LowRank(factor(rank, 5), factor(rows.size, rank), -0.5, rows, 0.0) if origin else None
        own = factor(rows.size) if magnitude else None
        adapter = LowRank(factor(rank, 5), factor(rows.size, rank), 0.5, rows, 0.3, own, start)
        part = rows.take(weight, 0)
        norms = adapted_norms(adapter, part, part.square().sum(dim=1)).detach() if magnitude else None
        keep = (torch.rand(18, 5, generator=generator) > 0.3).byte()
        first = [] if start is None else [Term(SPANS[block], start, None)]
        return [*first, Term(SPANS[block], adapter, keep, norms)]

    return [
        *term(0, Rows(2, 6), 2, magnitude=True, origin=True),
        *term(2, Rows(0, 6, blocks=2, stride=6), 3, magnitude=True),
        *term(2, Rows(3, 6, blocks=2, stride=6), 1, magnitude=False),
    ]


def test_magnitudes_against_the_dense_form(parts):
    """(m / ||W0 + sBA||) (W0 x + s B A drop(x)) + b on the letter's own rows (Liu et al. 2024, eq. 5)."""
    generator, x, weight, bias = parts
    terms = dora_terms(weight, generator)
    blocks = []
    for block, rows in enumerate(x.reshape(3, 6, 5)):
        out = rows @ weight.T
        for t in (t for t in terms if t.span == SPANS[block]):
            keep = 1.0 if t.keep is None else t.of(t.keep).double() / 0.7
            part = (rows * keep) @ (t.adapter.scale * t.adapter.b @ t.adapter.a).T
            out = out.index_add(1, t.adapter.rows.index(), part)
        for t in (t for t in terms if t.span == SPANS[block] and t.norms is not None):
            gain = torch.ones(12, dtype=x.dtype).index_put((t.adapter.rows.index(),), t.adapter.magnitude / t.norms)
            out = out * gain
        blocks.append(out + bias)
    torch.testing.assert_close(lane_linear(x, weight, bias, terms), torch.stack(blocks).reshape(6, 3, 12))


def test_gradcheck_with_magnitudes_origins_and_interleaved_rows(parts):
    generator, x, weight, bias = parts
    terms = dora_terms(weight, generator)
    leaves = [p for t in terms for p in (t.adapter.a, t.adapter.b, t.adapter.magnitude) if p is not None]
    assert torch.autograd.gradcheck(lambda x, *_: lane_linear(x, weight, bias, terms, batched=True), (x, *leaves))


def test_norms_from_the_factors_are_those_of_the_dense_sum(parts):
    generator, _, weight, _ = parts
    for term in dora_terms(weight, generator):
        part = term.adapter.rows.take(weight, 0)
        norms = adapted_norms(term.adapter, part, part.square().sum(dim=1))
        torch.testing.assert_close(norms, torch.linalg.vector_norm(part + term.adapter.delta(), dim=1))


def test_a_row_of_zeros_stays_finite(parts):
    """No magnitude stretches a W of zero; its own gradient is 0."""
    generator, x, weight, bias = parts
    weight = weight.clone()
    weight[3] = 0.0
    rows = Rows(2, 6)
    part = rows.take(weight, 0)
    zeros = nn.Parameter(torch.zeros(6, 2, dtype=torch.float64))
    factor = nn.Parameter(torch.randn(2, 5, generator=generator, dtype=torch.float64))
    magnitude = nn.Parameter(torch.linalg.vector_norm(part, dim=1))
    adapter = LowRank(factor, zeros, 0.5, rows, 0.0, magnitude)
    norms = adapted_norms(adapter, part, part.square().sum(dim=1))
    y = lane_linear(x, weight, bias, [Term(SPANS[0], adapter, None, norms)])
    torch.testing.assert_close(y, x @ weight.T + bias)
    y.square().sum().backward()
    assert magnitude.grad is not None and magnitude.grad.isfinite().all() and magnitude.grad[1] == 0
    torch.testing.assert_close(adapter.adapted(part), part)


def test_an_origin_is_frozen_and_taken_away(parts):
    generator, _, weight, _ = parts
    adapter = dora_terms(weight, generator)[1].adapter
    assert adapter.origin is not None
    by_hand = 0.5 * adapter.b @ adapter.a - 0.5 * adapter.origin.b @ adapter.origin.a
    torch.testing.assert_close(adapter.delta(), by_hand.detach())
    a, b = adapter.factors()
    assert (len(a), b.shape[1]) == (4, 4)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_lanes_computed_together_equal_lanes_computed_alone(dropout):
    """Eight lanes, of which some skip the letter, with low, padded and high ranks, and one with fewer rows."""
    generator = torch.Generator().manual_seed(5)
    starts = [0, 4, 8, 12, 16, 20, 24, 28, 31]
    x = torch.randn(31, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    terms, keep = [], (torch.rand(31, 5, generator=generator) > dropout).byte() if dropout else None
    for lane, rank in ((0, 1), (1, 20), (2, 3), (3, 20), (4, 2), (5, 20), (7, 2)):
        a = nn.Parameter(torch.randn(rank, 5, generator=generator, dtype=torch.float64))
        b = nn.Parameter(torch.randn(12, rank, generator=generator, dtype=torch.float64))
        span = (starts[lane], starts[lane + 1])
        terms.append(Term(span, LowRank(a, b, 1.0 + lane, Rows(0, 12), dropout), keep))
    leaves = [x, *(p for term in terms for p in (term.adapter.a, term.adapter.b))]
    together = lane_linear(x, weight, None, terms, batched=True)
    alone = sum(lane_linear(x, weight, None, [term]) - x @ weight.T for term in terms) + x @ weight.T
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad((y**2).sum(), leaves) for y in (together, alone))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-10)
