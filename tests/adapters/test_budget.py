"""Parameter arithmetic against hand-made sums and the paper's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.adapters.budget import adapter_parameters, allocate, max_rank
from src.errors import ConfigError
from src.spec import LoraSpec

shapes_lists = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=8)


def lora(*, rank: int | None = None, budget: int | None = None) -> LoraSpec:
    return LoraSpec("q", rank, budget, alpha=16.0)


def test_a_rank_16_adapter_on_a_4096_square_matrix_is_0_78_percent():
    parameters = adapter_parameters([(4096, 4096)], 16)
    assert parameters == 131_072
    assert parameters / 4096**2 == 0.0078125


def test_a_rank_5_adapter_on_a_1000_square_matrix_is_one_percent():
    assert adapter_parameters([(1000, 1000)], 5) == 10_000


@pytest.mark.parametrize(("matrices", "rank"), [(1, 8), (2, 4), (4, 2)])
def test_gpt3_spends_the_same_18m_on_one_two_or_four_matrices(matrices, rank):
    """Hu et al. 2021, table 5: d = 12,288, 96 layers."""
    shapes = [(12_288, 12_288)] * 96 * matrices
    assert adapter_parameters(shapes, rank) == 18_874_368
    allocation = allocate(lora(budget=18_874_368), shapes)
    assert (allocation.rank, allocation.parameters, allocation.residual) == (rank, 18_874_368, 0)


def test_gpt2_medium_with_rank_4_on_query_and_value():
    """Hu et al. 2021, table 3: 0.35M; 24 layers of width 1024."""
    assert adapter_parameters([(1024, 1024)] * 48, 4) == 393_216


@given(shapes_lists, st.integers(1, 100_000))
def test_the_rank_is_the_largest_that_fits(shapes, budget):
    unit = adapter_parameters(shapes, 1)
    if budget < unit:
        with pytest.raises(ConfigError, match=str(unit)):
            allocate(lora(budget=budget), shapes)
        return
    given = allocate(lora(budget=budget), shapes)
    assert given.parameters == adapter_parameters(shapes, given.rank) <= budget
    assert given.residual == budget - given.parameters
    assert given.rank == max_rank(shapes) or adapter_parameters(shapes, given.rank + 1) > budget


@given(shapes_lists, st.integers(-3, 80))
def test_ranks_beyond_the_smallest_side_are_refused(shapes, rank):
    limit = min(min(shape) for shape in shapes)
    if 1 <= rank <= limit:
        assert allocate(lora(rank=rank), shapes).parameters == rank * sum(a + b for a, b in shapes)
    else:
        with pytest.raises(ConfigError, match=f"1 to {limit}"):
            allocate(lora(rank=rank), shapes)


def test_nothing_adapted_costs_nothing():
    assert allocate(LoraSpec("none", None, None, 1.0), []).parameters == 0
