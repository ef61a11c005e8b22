"""Thin factors say the same as dense algebra: to 1e-10 from float64 factors, to 1e-5 from float32 ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.analysis.thin import cosine_with, delta_svd, nonzero, numerical_rank, right_vectors, size_of
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
def test_norms_ranks_and_cosine_are_the_dense_ones(d_out: int, d_in: int, rank: int, seed: int, scale: float) -> None:
    drawn = adapter(d_out, d_in, rank, seed=seed)
    made = low_rank(drawn.a.detach(), drawn.b.detach(), scale if abs(scale) > 1e-3 else 1.0)
    dense, weight = made.delta(), gaussian(d_out, d_in, seed=seed + 7)
    size, values = size_of(delta_svd(made).s), torch.linalg.svdvals(dense)
    assert size.frobenius == pytest.approx(float(torch.linalg.matrix_norm(dense)), rel=1e-10)
    assert size.spectral == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=1e-10)
    assert size.stable_rank == pytest.approx(float(values.square().sum() / values[0] ** 2), rel=1e-10)
    share = (values / values.sum()).clamp(min=1e-300)
    assert size.effective_rank == pytest.approx(float((-share * share.log()).sum().exp()), rel=1e-8)
    cosine = torch.nn.functional.cosine_similarity(dense.flatten(), weight.flatten(), dim=0)
    assert cosine_with(made, weight) == pytest.approx(float(cosine), abs=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.items(), ids=str)
def test_norms_and_cosine_from_float32_factors(dtype: torch.dtype, tolerance: float) -> None:
    made, weight = adapter(40, 30, 8, dtype=dtype), gaussian(40, 30, seed=5, dtype=dtype)
    dense = made.delta()
    assert size_of(delta_svd(made).s).frobenius == pytest.approx(float(torch.linalg.matrix_norm(dense)), rel=tolerance)
    cosine = torch.nn.functional.cosine_similarity(dense.flatten(), weight.flatten(), dim=0)
    assert cosine_with(made, weight) == pytest.approx(float(cosine), abs=tolerance)


def test_ranks_of_equal_and_of_one_singular_value() -> None:
    equal, single = size_of(torch.full((6,), 2.5)), size_of(torch.tensor([3.0, 0.0, 0.0]))
    assert (equal.stable_rank, equal.effective_rank) == pytest.approx((6.0, 6.0), rel=1e-6)
    assert (single.stable_rank, single.effective_rank) == pytest.approx((1.0, 1.0))
    assert equal.frobenius == pytest.approx(2.5 * math.sqrt(6))


def test_an_adapter_that_was_never_trained_has_no_ranks_and_no_cosine() -> None:
    made = low_rank(gaussian(3, 8), torch.zeros(6, 3, dtype=torch.float64))
    size = size_of(delta_svd(made).s)
    assert (size.frobenius, size.spectral, size.stable_rank, size.effective_rank) == (0.0, 0.0, None, None)
    assert len(nonzero(delta_svd(made)).s) == 0
    assert cosine_with(made, gaussian(6, 8)) is None


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
