"""Rows against plain indexing, for slices and for letters interleaved head by head."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.adapters.rows import Rows


@st.composite
def fused(draw: st.DrawFn) -> tuple[Rows, int]:
    """Rows of one of `parts` letters in a weight of `blocks` heads, and the weight's output units."""
    blocks, parts, run = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    part, stride = draw(st.integers(0, parts - 1)), parts * run
    return Rows(part * run, blocks * run, blocks, stride if blocks > 1 else 0), blocks * stride


@given(fused(), st.sampled_from([0, 1, -1]))
def test_take_add_and_copy_are_indexing(case: tuple[Rows, int], dim: int) -> None:
    rows, units = case
    tensor = torch.arange(units * 3.0).reshape(units, 3)
    tensor = tensor if dim == 0 else tensor.T
    index = rows.index()
    taken = rows.take(tensor, dim)
    assert torch.equal(taken, tensor.index_select(dim, index))
    added, copied = tensor.clone(), tensor.clone()
    rows.add_(added, torch.ones_like(taken), dim)
    assert torch.equal(added, tensor.index_add(dim, index, torch.ones_like(taken)))
    rows.copy_(copied, -taken, dim)
    assert torch.equal(copied, tensor.index_copy(dim, index, -taken))


def test_letters_of_a_fused_weight_cover_it_once() -> None:
    letters = [Rows(2 * part, 8, blocks=4, stride=6) for part in range(3)]
    assert sorted(torch.cat([rows.index() for rows in letters]).tolist()) == list(range(24))


@pytest.mark.parametrize("rows", [Rows(4, 4), Rows(2, 4, blocks=2, stride=6)])
def test_a_view_shares_memory(rows: Rows) -> None:
    weight = torch.zeros(12, 5)
    rows.view(weight, 0).fill_(1.0)
    assert weight.sum() == rows.size * 5 and weight[rows.index()].all()
