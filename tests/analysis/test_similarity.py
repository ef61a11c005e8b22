"""Identities of phi (paper, section 7.2), and its value for random subspaces."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.analysis import similarity
from src.analysis.similarity import GRID, all_phi, grid_up_to, pairwise_phi, phi, random_phi
from src.analysis.thin import right_vectors
from tests.analysis.factors import frame, gaussian

SIZES = st.integers(1, 8)


def dense_phi(first: torch.Tensor, second: torch.Tensor, i: int, j: int) -> float:
    """As the paper writes it, from full SVDs of A and B."""
    u, v = (torch.linalg.svd(a.double(), full_matrices=False).Vh for a in (first, second))
    return float(torch.linalg.matrix_norm(u[:i] @ v[:j].T).square() / min(i, j))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
def test_every_value_is_the_dense_one(dtype: torch.dtype, tolerance: float) -> None:
    a, b = gaussian(8, 30, dtype=dtype), gaussian(16, 30, seed=1, dtype=dtype)
    i, j = (1, 2, 5, 8), (1, 3, 8, 16)
    values = phi(right_vectors(a), right_vectors(b), i, j)
    assert values.shape == (4, 4)
    for row, size in enumerate(i):
        for column, other in enumerate(j):
            assert float(values[row, column]) == pytest.approx(dense_phi(a, b, size, other), abs=tolerance)


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, st.integers(0, 10_000), st.floats(0.01, 100.0))
def test_identities(i: int, j: int, seed: int, scale: float) -> None:
    """Itself 1, symmetric, in [0, 1], and unchanged by scale and by a common rotation."""
    a, b = gaussian(8, 20, seed=seed), gaussian(8, 20, seed=seed + 1)
    va, vb = right_vectors(a), right_vectors(b)
    value = float(phi(va, vb, (i,), (j,)))
    assert 0.0 <= value <= 1.0
    assert float(phi(va, va, (i,), (i,))) == pytest.approx(1.0, abs=1e-12)
    assert float(phi(vb, va, (j,), (i,))) == pytest.approx(value, abs=1e-12)
    rotation = frame(20, 20, seed + 2)
    turned = phi(right_vectors(scale * a @ rotation), right_vectors(b @ rotation), (i,), (j,))
    assert float(turned) == pytest.approx(value, abs=1e-9)
    mixed = phi(right_vectors(frame(8, 8, seed + 3) @ a), vb, (i,), (j,))  # rotating r leaves A^T A as it is
    assert float(mixed) == pytest.approx(value, abs=1e-9)


def test_orthogonal_subspaces_share_nothing_and_nested_ones_all() -> None:
    q = frame(20, 12)
    assert float(phi(q[:, :5], q[:, 5:], (5,), (7,))) == pytest.approx(0.0, abs=1e-12)
    assert float(phi(q[:, 2:5], q, (3,), (12,))) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("i", "j"), [(1, 1), (2, 8), (8, 3), (5, 5)])
def test_random_subspaces_share_max_over_d(i: int, j: int) -> None:
    """The mean over 400 draws lies within 4 of its standard errors of max(i, j) / d."""
    dimension, draws = 24, 400
    values = torch.tensor([
        float(phi(frame(dimension, i, seed), frame(dimension, j, 100_000 + seed), (i,), (j,))) for seed in range(draws)
    ])  # fmt: skip
    assert random_phi(i, j, dimension) == max(i, j) / dimension
    assert abs(float(values.mean()) - max(i, j) / dimension) < 4 * float(values.std()) / draws**0.5


def test_grids_are_whole_up_to_eight_and_end_at_their_limit() -> None:
    assert grid_up_to(0) == ()
    assert grid_up_to(8) == tuple(range(1, 9))
    assert grid_up_to(11)[-2:] == (10, 11)
    assert grid_up_to(1000) == GRID


@pytest.mark.parametrize("columns", [1, 7, 512])
def test_all_pairs_are_the_direct_formula_however_they_are_multiplied_together(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity, "COLUMNS", columns)
    frames = [frame(24, size, seed) for seed, size in enumerate((3, 1, 5, 3, 0, 3, 5))]
    found = pairwise_phi(frames)
    assert sorted(found) == [(k, m) for k in range(7) for m in range(k + 1, 7)]
    for (k, m), values in found.items():
        assert values.shape == (frames[k].shape[1], frames[m].shape[1])
        for i in range(1, values.shape[0] + 1):
            for j in range(1, values.shape[1] + 1):
                direct = torch.linalg.matrix_norm(frames[k][:, :i].T @ frames[m][:, :j]).square() / min(i, j)
                assert float(values[i - 1, j - 1]) == pytest.approx(float(direct), abs=1e-12)


def test_stacks_are_compared_member_by_member() -> None:
    first = torch.stack([frame(20, 4, seed) for seed in range(3)])
    second = torch.stack([frame(20, 6, seed) for seed in (7, 8)])
    found = all_phi(first, second)
    assert found.shape == (3, 2, 4, 6)
    for k in range(3):
        for m in range(2):
            torch.testing.assert_close(found[k, m], phi(first[k], second[m], (1, 2, 3, 4), (1, 2, 3, 4, 5, 6)))
