"""Cells against the real shapes of their model: all are checked before any starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.errors import BadCellsError, ConfigError, HarnessError
from src.experiment.resolve import resolve_cell, resolve_cells
from src.spec import run_id
from tests.experiment.workplace import Workplace, build


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("llama"), "llama")


@pytest.mark.parametrize(("word", "in_bert", "in_llama"), [("mlp", "ud", "ugd"), ("all", "qkvoud", "qkvougd")])
def test_words_become_the_models_letters_and_the_same_run(
    bert: Workplace, llama: Workplace, word: str, in_bert: str, in_llama: str
) -> None:
    for place, letters in ((bert, in_bert), (llama, in_llama)):
        by_word, by_letters = (resolve_cell(place.spec(targets), place.cache) for targets in (word, letters))
        assert by_word.spec.lora.targets == letters
        assert by_word == by_letters
        assert by_word.run_id == run_id(by_word.spec)
        assert {p.letter for p in by_word.setup.projections} == set(letters)


def test_a_cell_knows_its_projections_rank_and_count(bert: Workplace) -> None:
    cell = resolve_cell(bert.spec("du", None, budget=1000, layers="1-1"), bert.cache)
    assert [(p.letter, p.layer, p.d_in, p.d_out) for p in cell.setup.projections] == [
        ("u", 1, 16, 24),
        ("d", 1, 24, 16),
    ]
    assert (cell.setup.allocation.rank, cell.setup.allocation.parameters) == (12, 12 * 80)
    assert cell.setup.allocation.residual == 1000 - 960


def test_without_adapters_there_is_nothing_to_allocate(bert: Workplace) -> None:
    cell = resolve_cell(bert.spec("none"), bert.cache)
    assert (cell.setup.projections, cell.setup.allocation.rank, cell.setup.allocation.parameters) == ((), 0, 0)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"rank": 17}, "lora.rank is 17", "1 to 16, the smallest side of the matrices qv"),
    ({"rank": None, "budget": 127}, "lora.budget is 127", "at least 128, rank 1 for qv"),
    ({"targets": "qg"}, "lora.targets is 'qg'", "letters that this architecture has: qkvoud"),
    ({"layers": "0-2"}, "lora.layers is '0-2'", "a-b with 0 <= a <= b <= 1"),
    ({"max_length": 67}, "task.max_length is 67", "at most 66, the model's positions"),
]


@pytest.mark.parametrize(("change", "value", "allowed"), BAD)
def test_a_single_cell_that_does_not_fit_speaks_for_itself(
    bert: Workplace, change: dict[str, Any], value: str, allowed: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_cells([bert.spec(**change)], bert.cache)
    assert str(caught.value).startswith(f"{value}; allowed: {allowed}")


def test_every_cell_that_does_not_fit_is_named_with_its_error(bert: Workplace) -> None:
    specs = [bert.spec(), *(bert.spec(**change) for change, _, _ in BAD), bert.spec("all")]
    with pytest.raises(BadCellsError) as caught:
        resolve_cells(specs, bert.cache)
    heading, *lines = str(caught.value).splitlines()
    assert heading == "Nothing was started: 5 of 7 cells cannot be run."
    for line, (_, value, allowed) in zip(lines, BAD, strict=True):
        assert f": {value}; allowed: {allowed}" in line
    assert lines[0].startswith("  qv-r17-a8-lr0.01-s0: ")
    assert caught.value.exit_code == 2


def test_the_largest_rank_and_the_smallest_budget_fit(bert: Workplace) -> None:
    full, least = resolve_cells([bert.spec(rank=16), bert.spec(rank=None, budget=128)], bert.cache)
    assert (full.setup.allocation.rank, least.setup.allocation.rank) == (16, 1)


def test_cells_come_in_the_order_of_their_specs(bert: Workplace) -> None:
    specs = [bert.spec("q", rank) for rank in (3, 1, 2, 3)]
    assert [cell.spec for cell in resolve_cells(specs, bert.cache)] == specs


def test_a_model_that_is_not_there_is_no_matter_of_one_cell(bert: Workplace, tmp_path: Path) -> None:
    missing = Workplace(tmp_path / "missing", bert.data, bert.cache)
    with pytest.raises(HarnessError, match="there is no folder") as caught:
        resolve_cells([bert.spec(), missing.spec(), bert.spec(rank=99)], bert.cache)
    assert not isinstance(caught.value, ConfigError)
