"""Fastfood: the product that its definition says, its transpose, and columns as good as orthonormal."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from src.adapters import fastfood
from src.adapters.fastfood import Fastfood, walsh_hadamard

CPU = torch.device("cpu")


def make(rows: int, columns: int, seed: int = 0) -> Fastfood:
    return Fastfood(rows, columns, seed, device=CPU, dtype=torch.float64)


def dense(matrix: Fastfood) -> torch.Tensor:
    """P column by column."""
    return torch.stack([matrix.times(unit) for unit in torch.eye(matrix.columns, dtype=torch.float64)], dim=1)


def draw(size: int, seed: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [1, 2, 32, 64, 128, 512, 1024, 2048])
def test_walsh_hadamard_is_the_dense_product(width: int) -> None:
    x = draw(3 * width, 0).view(3, width)
    torch.testing.assert_close(walsh_hadamard(x), x @ torch.from_numpy(hadamard(width)).double())


def test_blocks_are_h_g_pi_h_b(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the definition, with dense factors; also where blocks are worked on a few at a time."""
    monkeypatch.setattr(fastfood, "_CHUNK", 16)
    matrix = make(rows=37, columns=6)
    h = torch.from_numpy(hadamard(8)).double()
    shuffle = torch.eye(8, dtype=torch.float64)[matrix._order]
    blocks = [
        h @ torch.diag(g) @ shuffle @ h @ torch.diag(b.double())
        for g, b in zip(matrix._gaussian, matrix._signs, strict=True)
    ]
    assert len(blocks) == 5
    whole = torch.cat(blocks)
    torch.testing.assert_close(dense(matrix), whole[:37, :6] / matrix.divisor)
    assert whole.square().sum() / 8 * (37 / 40) == pytest.approx(matrix.divisor**2), "columns have length 1 on average"


@given(st.integers(1, 400), st.integers(1, 150), st.integers(0, 10))
@settings(max_examples=40, deadline=None)
def test_the_transpose_is_the_adjoint(rows: int, columns: int, seed: int) -> None:
    matrix = make(rows, columns, seed)
    x, y = draw(columns, seed + 1), draw(rows, seed + 2)
    assert float(matrix.times(x) @ y) == pytest.approx(float(x @ matrix.transposed_times(y)), rel=1e-9, abs=1e-9)
    torch.testing.assert_close(matrix.times(2 * x + 1) - matrix.times(torch.ones_like(x)), 2 * matrix.times(x))


def test_columns_are_nearly_orthonormal() -> None:
    """With D rows, products of columns are of the order of 1 / sqrt(D)."""
    products = dense(make(rows=20_000, columns=50)).T @ dense(make(rows=20_000, columns=50))
    assert (products.diagonal() - 1).abs().max() < 0.05
    off = products - torch.diag(products.diagonal())
    assert off.abs().max() < 5 / 20_000**0.5


def test_a_seed_is_a_matrix() -> None:
    assert torch.equal(dense(make(20, 5, seed=3)), dense(make(20, 5, seed=3)))
    assert not torch.allclose(dense(make(20, 5, seed=3)), dense(make(20, 5, seed=4)))


def test_gradient() -> None:
    matrix = make(rows=21, columns=5)
    x = draw(5, 0).requires_grad_()
    assert torch.autograd.gradcheck(matrix.project, (x,))
