"""Errors reach a person whole, also from another process."""

from __future__ import annotations

import pickle

import pytest

from src.errors import (
    BadCellsError,
    ConfigError,
    DivergedError,
    HarnessError,
    InterruptedRunError,
    WriteError,
)

RANK = ConfigError("lora.rank", 0, "a whole number of at least 1")
CODES = {
    HarnessError("no network"): 1,
    WriteError("disk full"): 1,
    DivergedError("the loss is nan"): 1,
    RANK: 2,
    ConfigError("task.path", None, "a file"): 2,
    BadCellsError([("qv-r0", RANK), ("q-r0", RANK)], 5): 2,
    InterruptedRunError("stopped"): 130,
}


@pytest.mark.parametrize("error", CODES, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_with_their_message_and_exit_code(error: HarnessError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.exit_code == CODES[error]
    assert vars(again).keys() == vars(error).keys()


def test_a_config_error_keeps_its_parts_on_the_way() -> None:
    again = pickle.loads(pickle.dumps(RANK))
    assert (again.key, again.value, again.allowed) == (RANK.key, RANK.value, RANK.allowed)


def test_a_missing_value_is_called_nothing() -> None:
    assert str(ConfigError("task.path", None, "a file")) == "task.path is not set; allowed: a file."


@pytest.mark.parametrize("num", [1, 20, 21, 400])
def test_bad_cells_are_named_up_to_a_number_that_can_be_read(num: int) -> None:
    problems = [ConfigError("lora.rank", -i, "1 and more") for i in range(num)]
    error = BadCellsError([(f"cell{i}", problem) for i, problem in enumerate(problems)], 500)
    heading, *lines = str(error).splitlines()
    assert heading == f"Nothing was started: {num} of 500 cells cannot be run."
    assert lines[0] == f"  cell0: {problems[0]}"
    assert len(lines) == min(num, 20) + (num > 20)
    assert len(error.problems) == num
    if num > 20:
        assert lines[-1] == f"  ... and {num - 20} more"


def test_cells_that_share_a_problem_share_a_line() -> None:
    both = BadCellsError([("a", RANK), ("b", RANK)], 2)
    assert str(both).splitlines()[1:] == [f"  all cells: {RANK}"]
    some = BadCellsError([("a", RANK), ("b", ConfigError("seed", -1, "0")), ("c", RANK)], 4)
    assert str(some).splitlines()[1:] == [f"  2 cells, such as a: {RANK}", "  b: seed is -1; allowed: 0."]
