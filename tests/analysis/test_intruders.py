"""Intruder dimensions (arXiv 2410.21228) against the dense SVD of W0 + delta W."""

from __future__ import annotations

import pytest
import torch

from src.adapters.lowrank import LowRank
from src.analysis.base_svd import svd_of
from src.analysis.intruders import count_intruders, top_left_vectors
from tests.analysis.factors import adapter, frame, gaussian, low_rank


def dense_count(made: LowRank, weight: torch.Tensor, k: int, threshold: float) -> int:
    base, _, _ = torch.linalg.svd(weight, full_matrices=False)
    adapted, _, _ = torch.linalg.svd(weight + made.delta(), full_matrices=False)
    return int(((base.T @ adapted[:, :k]).abs().amax(dim=0) < threshold).sum())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize(("d_out", "d_in"), [(60, 50), (50, 60), (16, 12)])
def test_leading_vectors_are_the_dense_ones(d_out: int, d_in: int, dtype: torch.dtype, tolerance: float) -> None:
    """With well-separated singular values, as otherwise vectors of float32 differ for another reason."""
    values = 2.0 ** -torch.arange(min(d_out, d_in), dtype=torch.float64)
    weight = ((frame(d_out, len(values), 1) * values) @ frame(d_in, len(values), 2).T).to(dtype)
    made = adapter(d_out, d_in, 2, dtype=dtype)
    made = low_rank(made.a.detach(), made.b.detach(), 0.01)
    expected, _, _ = torch.linalg.svd(weight + made.delta(), full_matrices=False)
    overlap = (top_left_vectors(made, weight, 4).T @ expected[:, :4].double()).abs()
    torch.testing.assert_close(overlap, torch.eye(4, dtype=torch.float64), rtol=0, atol=20 * tolerance)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 5.0])
@pytest.mark.parametrize(("d_out", "d_in"), [(70, 60), (60, 70), (12, 9)])
def test_counts_are_the_dense_ones(d_out: int, d_in: int, scale: float) -> None:
    weight, drawn = gaussian(d_out, d_in, seed=3), adapter(d_out, d_in, 3)
    made = low_rank(drawn.a.detach(), drawn.b.detach(), scale)
    examined, found = count_intruders(made, weight, svd_of(weight))
    assert examined == min(10, d_out, d_in)
    assert found == dense_count(made, weight, examined, 0.5)


def test_a_large_random_direction_is_the_one_intruder_and_no_change_brings_none() -> None:
    weight = gaussian(100, 100, seed=5)
    a, b = frame(100, 1, 6).T, frame(100, 1, 7)
    assert count_intruders(low_rank(a, b, 100.0), weight, svd_of(weight)) == (10, 1)
    assert count_intruders(low_rank(a, b, 0.0), weight, svd_of(weight)) == (10, 0)


def test_amplifying_w_itself_is_no_intrusion() -> None:
    weight = gaussian(60, 60, seed=8)
    svd = svd_of(weight)
    made = low_rank(svd.v[:, 5:6].T.contiguous(), svd.u[:, 5:6].contiguous(), 50.0)
    assert count_intruders(made, weight, svd) == (10, 0)
