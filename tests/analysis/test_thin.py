"""Thin factors say the same as dense algebra: to 1e-10 from float64 factors, to 1e-5 from float32 ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.adapters.lowrank import LowRank
from src.analysis.thin import all_right_vectors, delta_svd, delta_svds, nonzero, numerical_rank, right_vectors, size_of
from tests.analysis.factors import adapter, frame, gaussian, low_rank

PRECISIONS = {torch.float64: 1e-10, torch.float32: 1e-5}
SHAPES = [(12, 20, 3), (20, 12, 3), (16, 16, 16), (9, 30, 12), (30, 9, 1), (5, 7, 6)]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.items(), ids=str)
@pytest.mark.parametrize(("d_out", "d_in", "rank"), SHAPES)
def test_the_svd_of_delta_w_is_the_dense_one(
    d_out: int, d_in: int, rank: int, dtype: torch.dtype, tolerance: float
) -> None:
    made = adapter(d_out, d_in, rank, dtype=dtype)
    thin, dense = delta_svd(made), made.delta()
    values = torch.linalg.svdvals(dense).double()
    k = len(thin.s)
    assert k == min(rank, d_out, d_in)
    torch.testing.assert_close(thin.s / thin.s[0], values[:k] / values[0], rtol=0, atol=tolerance)
    rebuilt = (thin.u * thin.s) @ thin.v.T
    torch.testing.assert_close(rebuilt, dense.double(), rtol=0, atol=tolerance * float(thin.s[0]))
    for vectors in (thin.u, thin.v):
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(k, dtype=torch.float64), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 12), st.integers(0, 1000), st.floats(-3.0, 3.0))
def test_norms_and_ranks_are_the_dense_ones(d_out: int, d_in: int, rank: int, seed: int, scale: float) -> None:
    drawn = adapter(d_out, d_in, rank, seed=seed)
    made = low_rank(drawn.a.detach(), drawn.b.detach(), scale if abs(scale) > 1e-3 else 1.0)
    dense = made.delta()
    size, values = size_of(delta_svd(made).s), torch.linalg.svdvals(dense)
    assert size.frobenius == pytest.approx(float(torch.linalg.matrix_norm(dense)), rel=1e-10)
    assert size.spectral == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=1e-10)
    assert size.stable_rank == pytest.approx(float(values.square().sum() / values[0] ** 2), rel=1e-10)
    share = (values / values.sum()).clamp(min=1e-300)
    assert size.effective_rank == pytest.approx(float((-share * share.log()).sum().exp()), rel=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.items(), ids=str)
def test_norms_from_float32_factors(dtype: torch.dtype, tolerance: float) -> None:
    made = adapter(40, 30, 8, dtype=dtype)
    dense = made.delta()
    assert size_of(delta_svd(made).s).frobenius == pytest.approx(float(torch.linalg.matrix_norm(dense)), rel=tolerance)


def test_ranks_of_equal_and_of_one_singular_value() -> None:
    equal, single = size_of(torch.full((6,), 2.5)), size_of(torch.tensor([3.0, 0.0, 0.0]))
    assert (equal.stable_rank, equal.effective_rank) == pytest.approx((6.0, 6.0), rel=1e-6)
    assert (single.stable_rank, single.effective_rank) == pytest.approx((1.0, 1.0))
    assert equal.frobenius == pytest.approx(2.5 * math.sqrt(6))


def test_an_adapter_that_was_never_trained_has_no_ranks() -> None:
    made = low_rank(gaussian(3, 8), torch.zeros(6, 3, dtype=torch.float64))
    size = size_of(delta_svd(made).s)
    assert (size.frobenius, size.spectral, size.stable_rank, size.effective_rank) == (0.0, 0.0, None, None)
    assert len(nonzero(delta_svd(made)).s) == 0


def test_directions_of_zero_singular_values_are_left_out() -> None:
    """Two of four rows of A repeat the others, so that delta W has rank 2."""
    rows = gaussian(2, 10)
    made = low_rank(torch.cat([rows, rows]), gaussian(9, 4, seed=3))
    assert len(nonzero(delta_svd(made)).s) == torch.linalg.matrix_rank(made.delta()) == 2
    assert right_vectors(made.a).shape == (10, 2)
    assert numerical_rank(torch.tensor([]), 10) == 0


def test_right_vectors_are_those_of_a() -> None:
    a = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)) @ frame(12, 3).T
    expected = torch.linalg.svd(a, full_matrices=False).Vh.T
    torch.testing.assert_close((right_vectors(a).T @ expected).abs(), torch.eye(3, dtype=torch.float64))


def hard_cases() -> dict[str, LowRank]:
    """All of 40 x 30 but for the last: ranks mixed, and factors that are close to singular or are."""
    equal = gaussian(4, 30, seed=2)
    graded = 10.0 ** -torch.arange(0, 12, 2, dtype=torch.float64)
    return {
        "plain": adapter(40, 30, 4),
        "other rank": adapter(40, 30, 7, seed=4),
        "equal columns": low_rank(equal, gaussian(40, 1, seed=5).expand(40, 4).contiguous()),
        "equal rows": low_rank(equal[[0, 0, 1, 1]], gaussian(40, 4, seed=6)),
        "tiny scale": low_rank(equal, gaussian(40, 4, seed=7), 1e-12),
        "zero": low_rank(equal, torch.zeros(40, 4, dtype=torch.float64)),
        "graded": low_rank(gaussian(6, 30, seed=8), frame(40, 6, 9) * graded),
        "other shape": adapter(25, 50, 4, seed=10),
    }


def test_a_batch_is_one_by_one_and_dense_whatever_the_factors() -> None:
    cases = hard_cases()
    for (name, made), thin in zip(cases.items(), delta_svds(list(cases.values())), strict=True):
        alone, values = delta_svd(made), torch.linalg.svdvals(made.delta())
        largest = float(values[0])
        assert torch.equal(thin.s, alone.s), name
        torch.testing.assert_close(thin.s, values[: len(thin.s)], rtol=0, atol=1e-13 * largest, msg=name)
        rebuilt = (thin.u * thin.s) @ thin.v.T
        torch.testing.assert_close(rebuilt, made.delta(), rtol=0, atol=1e-13 * largest, msg=name)
        for vectors in (thin.u, thin.v):
            torch.testing.assert_close(vectors.T @ vectors, torch.eye(len(thin.s)).double(), rtol=0, atol=1e-12)


def test_small_singular_values_are_as_precise_as_large_ones_where_the_factors_say_so() -> None:
    """Of diag(s) Q with orthonormal Q the singular values are s, over twelve orders of magnitude."""
    values = 10.0 ** -torch.arange(13, dtype=torch.float64)
    (thin,) = delta_svds([low_rank(frame(30, 13, 1).T.contiguous(), frame(40, 13, 2) * values, 1.0)])
    torch.testing.assert_close(thin.s, values, rtol=1e-3, atol=1e-15)
    torch.testing.assert_close(thin.s[:6], values[:6], rtol=1e-10, atol=0)


def test_right_vectors_of_many_are_those_of_each() -> None:
    factors = [made.a.detach() for made in hard_cases().values()]
    for a, vectors in zip(factors, all_right_vectors(factors), strict=True):
        assert torch.equal(vectors, right_vectors(a))
        assert vectors.shape[1] == torch.linalg.matrix_rank(a)
