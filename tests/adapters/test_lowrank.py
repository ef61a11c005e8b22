"""The packed product against plain algebra written out lane by lane."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src.adapters.lowrank import LowRank, Term, lane_linear


def make_terms(generator: torch.Generator, *, dropout: float = 0.0) -> list[Term]:
    """Three lanes of 2 x 3 rows on a fused 12-wide output: ranks 1, 2, 3; lane 0 has two slices, lane 1 none."""
    shapes = [(0, 1, 0, 4), (0, 2, 8, 4), (2, 3, 4, 8)]
    terms = []
    for block, rank, start, d_out in shapes:
        a = nn.Parameter(torch.randn(rank, 5, generator=generator, dtype=torch.float64))
        b = nn.Parameter(torch.randn(d_out, rank, generator=generator, dtype=torch.float64))
        keep = torch.rand(6, 5, generator=generator) > dropout if dropout else None
        terms.append(Term(block, LowRank(a, b, 2.0 / rank, start, dropout), keep))
    return terms


def dense(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, terms: list[Term]) -> torch.Tensor:
    rows = x.reshape(3, 6, 5)
    blocks = [row @ weight.T + bias for row in rows]
    for term in terms:
        keep = 1.0 if term.keep is None else term.keep.double() / (1 - term.adapter.dropout)
        delta = torch.zeros(12, 5, dtype=x.dtype)
        delta[term.outputs] = term.adapter.scale * term.adapter.b @ term.adapter.a
        blocks[term.block] = blocks[term.block] + (rows[term.block] * keep) @ delta.T
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
    ours, theirs = lane_linear(x, weight, bias, terms, 3), dense(x, weight, bias, terms)
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
    assert torch.autograd.gradcheck(lambda x, *_: lane_linear(x, weight, bias, terms, 3), (x, *factors))


def test_transposed_weight_and_missing_bias(parts):
    generator, x, weight, bias = parts
    terms = make_terms(generator)
    stored = weight.T.contiguous()
    torch.testing.assert_close(
        lane_linear(x, stored.T, None, terms, 3), dense(x, weight, torch.zeros_like(bias), terms)
    )


def test_frozen_input_gets_no_gradient_but_factors_do(parts):
    generator, x, weight, bias = parts
    terms = make_terms(generator)
    lane_linear(x.detach(), weight, bias, terms, 3).sum().backward()
    assert all(p.grad is not None for t in terms for p in (t.adapter.a, t.adapter.b))


def test_zero_padded_rank_is_exact(parts):
    generator, x, weight, bias = parts
    small = make_terms(generator)[2]
    a, b = small.adapter.a.detach(), small.adapter.b.detach()
    wide = LowRank(
        nn.Parameter(torch.cat([a, torch.zeros(4, 5, dtype=a.dtype)])),
        nn.Parameter(torch.cat([b, torch.zeros(8, 4, dtype=b.dtype)], dim=1)),
        small.adapter.scale,
        small.adapter.start,
        0.0,
    )
    padded = lane_linear(x, weight, bias, [Term(2, wide, None)], 3)
    torch.testing.assert_close(padded, lane_linear(x, weight, bias, [small], 3))
    padded.square().sum().backward()
    assert wide.a.grad is not None and wide.b.grad is not None
    assert not wide.a.grad[3:].any() and not wide.b.grad[:, 3:].any()


def test_a_lane_with_nan_leaves_the_others_bitwise_unchanged(parts):
    generator, x, weight, bias = parts
    terms = make_terms(generator)
    before = lane_linear(x, weight, bias, terms, 3)
    with torch.no_grad():
        terms[2].adapter.b.fill_(float("nan"))
    after = lane_linear(x, weight, bias, terms, 3)
    assert torch.equal(before[:4], after[:4]) and after[4:].isnan().any()
