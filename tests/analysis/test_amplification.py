"""Table 7's columns against dense algebra, a diagonal W in closed form, and chance."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from src.adapters.lowrank import LowRank
from src.analysis.amplification import DRAWS, Amplification, along_random, amplifications
from src.analysis.thin import delta_svd, delta_svds, nonzero
from tests.analysis.factors import adapter, gaussian, low_rank


def amplify(made: LowRank, weight: torch.Tensor) -> Amplification:
    (found,) = amplifications([nonzero(delta_svd(made))], weight, torch.linalg.svdvals(weight))
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
def test_the_columns_are_the_dense_ones(dtype: torch.dtype, tolerance: float) -> None:
    made, weight, r = adapter(24, 18, 4, dtype=dtype), gaussian(24, 18, seed=9, dtype=dtype), 4
    found = amplify(made, weight)
    u, s, vh = torch.linalg.svd(made.delta(), full_matrices=False)
    wu, _, wvh = torch.linalg.svd(weight, full_matrices=False)
    expected = {
        "dw_norm": torch.linalg.vector_norm(s),
        "w_norm": torch.linalg.matrix_norm(weight),
        "along_dw": torch.linalg.matrix_norm(u[:, :r].T @ weight @ vh[:r].T),
        "along_w": torch.linalg.matrix_norm(wu[:, :r].T @ weight @ wvh[:r].T),
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(float(value), rel=tolerance), name
    assert found.factor == pytest.approx(found.dw_norm / float(expected["along_dw"]), rel=tolerance)
    assert found.rank == r
    cosine = torch.nn.functional.cosine_similarity(made.delta().flatten(), weight.flatten(), dim=0)
    assert found.cosine == pytest.approx(float(cosine), abs=tolerance)


def test_a_diagonal_w_in_closed_form() -> None:
    """W = diag(w) and delta W = diag(0, 5, 3, 0, ...): U^T W V = diag(w_2, w_3)."""
    w = torch.tensor([7.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)
    a, b = torch.zeros(2, 5, dtype=torch.float64), torch.zeros(5, 2, dtype=torch.float64)
    a[0, 1] = a[1, 2] = 1.0
    b[1, 0], b[2, 1] = 5.0, 3.0
    found = amplify(low_rank(a, b, scale=1.0), torch.diag(w))
    assert found.dw_norm == pytest.approx(math.sqrt(34))
    assert found.along_dw == pytest.approx(math.sqrt(2.0**2 + 1.0**2))
    assert found.along_w == pytest.approx(math.sqrt(7.0**2 + 2.0**2))
    assert found.factor == pytest.approx(math.sqrt(34 / 5))


def test_random_directions_are_those_of_chance() -> None:
    """E ||U^T W V||^2 = r^2 |W|^2 / (d_out d_in) for independent uniform frames."""
    weight, rank = gaussian(80, 60, seed=2), 12
    expected = rank * float(torch.linalg.matrix_norm(weight)) / math.sqrt(80 * 60)
    assert along_random(weight, rank) == pytest.approx(expected, rel=3 / math.sqrt(DRAWS * rank**2))
    assert along_random(weight, rank) == along_random(weight, rank)


def test_directions_of_w_itself_hold_the_most_and_scaling_delta_w_scales_the_factor() -> None:
    made, weight = adapter(30, 30, 5), gaussian(30, 30, seed=4)
    found = amplify(made, weight)
    louder = amplify(low_rank(made.a.detach(), made.b.detach(), 10 * made.scale), weight)
    assert found.along_w is not None and found.along_dw is not None and found.factor is not None
    assert found.along_w > found.along_dw
    assert louder.along_dw == pytest.approx(found.along_dw)
    assert louder.factor == pytest.approx(10 * found.factor)


def test_no_change_has_no_directions_and_no_factor() -> None:
    found = amplify(low_rank(gaussian(2, 6), torch.zeros(5, 2, dtype=torch.float64)), gaussian(5, 6))
    assert (found.rank, found.dw_norm) == (0, 0.0)
    assert found.along_dw is found.along_w is found.along_random is found.factor is found.cosine is None


def test_many_adapters_of_one_matrix_are_one_by_one() -> None:
    weight = gaussian(24, 18, seed=9)
    still = low_rank(gaussian(2, 18), torch.zeros(24, 2, dtype=torch.float64))
    made = [adapter(24, 18, 4), still, adapter(24, 18, 1, seed=3), adapter(24, 18, 4, seed=5)]
    values = torch.linalg.svdvals(weight)
    found = amplifications([nonzero(delta) for delta in delta_svds(made)], weight, values)
    for one, own in zip(made, found, strict=True):
        alone = amplify(one, weight)
        assert own.rank == alone.rank
        for name, value in dataclasses.asdict(alone).items():
            assert getattr(own, name) == (None if value is None else pytest.approx(value, rel=1e-12, abs=1e-14)), name


def test_a_zero_weight_has_no_cosine_and_no_factor() -> None:
    found = amplify(adapter(6, 8, 2), torch.zeros(6, 8, dtype=torch.float64))
    assert (found.along_dw, found.factor, found.cosine) == (0.0, None, None)
