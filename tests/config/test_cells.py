"""All cells are checked before any starts, and one message names everything that is wrong."""

from __future__ import annotations

import pytest

from src.config.cells import Cell, check_cells
from src.config.compose import compose_config
from src.errors import BadCellsError, ConfigError


def cell(*overrides: str) -> Cell:
    return Cell(" ".join(overrides), compose_config(overrides))


def test_good_cells_keep_their_order_and_settings() -> None:
    checked = check_cells([cell("lora.rank=4"), cell("lora.rank=1", "study=mine"), cell("lora.targets=vq")])
    assert [spec.lora.rank for spec, _ in checked] == [4, 1, 8]
    assert [settings.study for _, settings in checked] == ["minilm-r52", "mine", "minilm-r52"]
    assert checked[2][0].lora.targets == "qv"


def test_every_bad_cell_is_named_with_key_value_and_what_is_allowed() -> None:
    with pytest.raises(BadCellsError) as caught:
        check_cells([cell("lora.rank=0"), cell("lora.rank=8"), cell("lora.targets=qx"), cell("within=-1")])
    heading, *lines = str(caught.value).splitlines()
    assert heading == "Nothing was started: 3 of 4 cells cannot be run."
    assert [line.strip().partition(":")[0] for line in lines] == ["lora.rank=0", "lora.targets=qx", "within=-1"]
    assert "lora.rank is 0; allowed: a whole number of at least 1" in lines[0]
    assert "lora.targets is 'qx'; allowed: letters of qkvougd" in lines[1]
    assert "within is -1.0; allowed: a number of at least 0" in lines[2]
    assert caught.value.exit_code == 2


def test_a_single_bad_cell_speaks_for_itself() -> None:
    with pytest.raises(ConfigError, match=r"^lora.rank is 0; allowed"):
        check_cells([cell("lora.rank=0")])


def test_a_long_list_of_bad_cells_is_cut() -> None:
    bad = [cell(f"optim.lr=-{i}") for i in range(BadCellsError.most_shown + 5)]
    with pytest.raises(BadCellsError) as caught:
        check_cells(bad)
    lines = str(caught.value).splitlines()
    assert len(lines) == BadCellsError.most_shown + 2
    assert lines[-1] == "  ... and 5 more"
