"""Parameter arithmetic against hand-made sums and the paper's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.adapters.budget import Allocation, adapter_parameters, allocate, max_rank
from src.errors import ConfigError
from src.spec import FrozenMap, LoraSpec


class Matrix(NamedTuple):
    d_in: int
    d_out: int
    letter: str = "q"
    layer: int = 0
    stack: str = ""


shapes_lists = st.lists(st.builds(Matrix, st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=8)


def lora(*, rank: int | None = None, budget: int | None = None, **options: Any) -> LoraSpec:
    return LoraSpec("q", rank, budget, alpha=16.0, **options)


def uniform(shapes: Sequence[Matrix], rank: int, *, dora: bool = False) -> int:
    return adapter_parameters(shapes, [rank] * len(shapes), dora=dora)


def grid(letters: str, layers: int, width: int = 8) -> list[Matrix]:
    return [Matrix(width, width, letter, layer) for layer in range(layers) for letter in letters]


def test_a_rank_16_adapter_on_a_4096_square_matrix_is_0_78_percent():
    parameters = uniform([Matrix(4096, 4096)], 16)
    assert parameters == 131_072
    assert parameters / 4096**2 == 0.0078125


def test_a_rank_5_adapter_on_a_1000_square_matrix_is_one_percent():
    assert uniform([Matrix(1000, 1000)], 5) == 10_000


@pytest.mark.parametrize(("matrices", "rank"), [(1, 8), (2, 4), (4, 2)])
def test_gpt3_spends_the_same_18m_on_one_two_or_four_matrices(matrices, rank):
    """Hu et al. 2021, table 5: d = 12,288, 96 layers."""
    shapes = [Matrix(12_288, 12_288)] * 96 * matrices
    assert uniform(shapes, rank) == 18_874_368
    allocation = allocate(lora(budget=18_874_368), shapes)
    assert (allocation.rank, allocation.parameters, allocation.residual) == (rank, 18_874_368, 0)


def test_gpt2_medium_with_rank_4_on_query_and_value():
    """Hu et al. 2021, table 3: 0.35M; 24 layers of width 1024."""
    assert uniform([Matrix(1024, 1024)] * 48, 4) == 393_216


@given(shapes_lists, st.integers(1, 100_000))
def test_the_rank_is_the_largest_that_fits(shapes, budget):
    unit = uniform(shapes, 1)
    if budget < unit:
        with pytest.raises(ConfigError, match=str(unit)):
            allocate(lora(budget=budget), shapes)
        return
    given = allocate(lora(budget=budget), shapes)
    assert given.parameters == uniform(shapes, given.rank) <= budget
    assert given.residual == budget - given.parameters
    assert given.rank == max_rank(shapes) or uniform(shapes, given.rank + 1) > budget


@given(shapes_lists, st.integers(-3, 80))
def test_ranks_beyond_the_smallest_side_are_refused(shapes, rank):
    limit = min(min(m.d_in, m.d_out) for m in shapes)
    if 1 <= rank <= limit:
        assert allocate(lora(rank=rank), shapes).parameters == rank * sum(m.d_in + m.d_out for m in shapes)
    else:
        with pytest.raises(ConfigError, match=f"1 to {limit}"):
            allocate(lora(rank=rank), shapes)


def test_nothing_adapted_costs_nothing():
    assert allocate(LoraSpec("none", None, None, 1.0), []).parameters == 0


def test_doras_magnitudes_count() -> None:
    """d_out more for each matrix, whatever the rank; a budget pays for them first."""
    shapes = [Matrix(6, 10), Matrix(4, 8)]
    assert allocate(lora(rank=2, dora=True), shapes).parameters == 2 * (16 + 12) + 18
    given = allocate(lora(budget=18 + 3 * 28 + 27, dora=True), shapes)
    assert (given.rank, given.parameters, given.residual) == (3, 18 + 3 * 28, 27)
    with pytest.raises(ConfigError, match=f"at least {18 + 28}"):
        allocate(lora(budget=45, dora=True), shapes)


def test_ranks_by_letter_layer_and_both() -> None:
    """Both count before layers, layers before letters; what no rule covers has lora.rank."""
    matrices = grid("qv", 3)
    given = allocate(lora(rank=1, ranks=FrozenMap({"v": 2, "2": 3, "v/0-1": 5})), matrices)
    assert given.ranks == (1, 5, 1, 5, 3, 3)
    assert given.parameters == 16 * sum(given.ranks)
    assert not given.uniform


@pytest.mark.parametrize(
    ("ranks", "message"),
    [({"k": 2}, "letters and layers that are adapted"), ({"7": 2}, "that are adapted"),
     ({"0-9": 2}, "here q in the layers 0-2"),
     ({"q": 9}, "1 to 8, the smaller side of q in layer 0"),
     ({"0-1": 2, "1-2": 3}, "one of the two for q of layer 1")],
)  # fmt: skip
def test_ranks_that_do_not_fit_are_refused(ranks: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        allocate(lora(rank=1, ranks=FrozenMap(ranks)), grid("qv", 3))
    assert caught.value.key == "lora.ranks"


def test_each_matrix_has_a_limit_of_its_own() -> None:
    """Under grouped-query attention k is smaller than q; a rank that no matrix has is not checked."""
    matrices = [Matrix(16, 16, "q"), Matrix(16, 8, "k")]
    assert allocate(lora(rank=8, ranks=FrozenMap({"q": 12})), matrices).ranks == (12, 8)
    assert allocate(lora(rank=99, ranks=FrozenMap({"q": 12, "k": 2})), matrices).ranks == (12, 2)
    with pytest.raises(ConfigError, match="1 to 8, the smallest side of the matrices q") as caught:
        allocate(lora(rank=12), matrices)
    assert caught.value.key == "lora.rank"


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 1000))
def test_fill_spends_the_residual_on_the_last_layers(letters: int, layers: int, more: int) -> None:
    """No layer could get one more rank out of what is left; the layers that did are the last ones."""
    matrices = grid("qkvo"[:letters], layers)
    unit = uniform(matrices, 1)
    plain = allocate(lora(budget=unit + more), matrices)
    filled = allocate(lora(budget=unit + more, fill="layers"), matrices)
    own = [filled.ranks[i] for i in range(0, len(matrices), letters)]
    assert filled.rank == plain.rank == own[0] or own[0] == plain.rank + 1
    assert own == sorted(own) and max(own) - plain.rank <= 1
    assert filled.parameters == adapter_parameters(matrices, filled.ranks) <= unit + more
    assert filled.residual is not None and (filled.residual < 16 * letters or plain.rank == max_rank(matrices))


def test_what_another_method_takes_comes_off_the_budget_first() -> None:
    shapes = [Matrix(8, 8)] * 4
    given = allocate(lora(budget=200), shapes, Allocation(0, 40, size=5))
    assert (given.rank, given.parameters, given.residual, given.size) == (2, 168, 32, 5)
    with pytest.raises(ConfigError, match="at least 104, rank 1 for q beside the prefix"):
        allocate(lora(budget=103), shapes, Allocation(0, 40, size=5))
