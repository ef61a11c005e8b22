"""What follows from how fast packs are: hand-made tables, and properties over drawn ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.experiment.packing.pack_table import (
    SIZES,
    Measured,
    PackTable,
    divide,
    predict_bytes,
    read_table,
    sizes_to_measure,
    still_rises,
    write_table,
)

PLENTY = 1e12


def table_of(rates: Sequence[float], *, most: int | None = None, lane_bytes: int = 100) -> PackTable:
    """Packs of 1, 2, 4 ... with these rates, each lane with as much memory."""
    measured = [Measured(size, rate, size * lane_bytes) for size, rate in zip(SIZES, rates, strict=False)]
    return PackTable(tuple(measured), most=most)


tables = st.lists(st.floats(10, 1e5), min_size=1, max_size=6).map(table_of)


@given(table=tables, cells=st.integers(1, 40), room=st.floats(100, 4000))
def test_no_larger_pack_than_one_cell_unless_it_is_faster(table: PackTable, cells: int, room: float) -> None:
    size = table.fastest(cells, room)
    assert 1 <= size <= min(cells, table.measured[-1].size)
    assert size == 1 or table.rate(size) > table.rate(1)


@pytest.mark.parametrize(
    ("rates", "size"),
    [
        ([100, 100, 100, 100], 1),
        ([100, 102, 102, 102], 1),
        ([100, 150, 220, 290], 8),
        ([100, 150, 220, 225], 4),
        ([100, 150, 220, 180], 4),
        ([100, 90, 80], 1),
        ([100, 90, 120, 150], 8),
    ],
)
def test_the_smallest_pack_of_those_that_cannot_be_told_from_the_fastest(rates: list[float], size: int) -> None:
    assert table_of(rates).fastest(8, PLENTY) == size


def test_no_more_than_there_are_cells_memory_and_room() -> None:
    table = table_of([100, 190, 360, 680])
    assert [table.fastest(cells, PLENTY) for cells in (1, 2, 3, 6, 8, 100)] == [1, 2, 3, 6, 8, 8]
    assert [table.fastest(8, room) for room in (50, 100, 399, 400, 800)] == [1, 1, 2, 4, 8]
    assert table_of([100, 190, 360, 680], most=3).fastest(8, PLENTY) == 3
    unknown = PackTable(tuple(Measured(m.size, m.tokens_per_s, None) for m in table.measured))
    assert unknown.fastest(8, 0) == 8


def test_between_measured_sizes_the_time_of_a_step_is_interpolated() -> None:
    table = table_of([100, 160, 200])  # steps of 10, 12.5 and 20 ms for a token each
    assert table.rate(3) == pytest.approx(3 / ((12.5 + 20) / 2 / 1000))
    assert table.seconds([1, 2, 3, 4]) == pytest.approx((10 + 12.5 + 16.25 + 20) / 1000)
    with pytest.raises(ValueError, match="no pack of 5"):
        table.rate(5)


@given(cells=st.integers(1, 100), steps=st.integers(0, 100_000), share=st.floats(0.001, 0.2))
def test_measuring_costs_no_more_than_its_share(cells: int, steps: int, share: float) -> None:
    sizes = sizes_to_measure(cells, steps, lane_steps=5, share=share)
    assert 5 * sum(sizes) <= share * steps
    assert sizes == sorted(set(sizes)) and len(sizes) != 1
    assert not sizes or (sizes[0] == 1 and sizes[-1] <= min(cells, 32))


def test_all_sizes_as_far_as_there_are_cells() -> None:
    assert sizes_to_measure(6, 10**6, lane_steps=5, share=0.05) == [1, 2, 4, 6]
    assert sizes_to_measure(8, 1600, lane_steps=5, share=0.05) == [1, 2, 4, 8], "75 of 80 steps"
    assert sizes_to_measure(1000, 10**6, lane_steps=5, share=0.05) == [1, 2, 4, 8, 16, 32]
    assert sizes_to_measure(1, 10**6, lane_steps=5, share=0.05) == []
    assert sizes_to_measure(8, 1000, lane_steps=5, share=0.05) == [1, 8], "45 of 50 steps"
    assert sizes_to_measure(8, 800, lane_steps=5, share=0.05) == []
    assert sizes_to_measure(100, 2000, lane_steps=5, share=0.05) == [1, 2, 4, 8], "16 more would be too many"


@pytest.mark.parametrize(
    ("rates", "rises"),
    [([100], True), ([100, 90], True), ([100, 90, 99], False), ([100, 90, 120], True), ([100, 150, 140], True),
     ([100, 150, 140, 151], False), ([100, 150, 200, 300], True)],
)  # fmt: skip
def test_one_slow_size_does_not_end_the_search_and_two_do(rates: list[float], rises: bool) -> None:
    assert still_rises(rates) is rises


def test_memory_grows_as_between_the_last_two_sizes() -> None:
    assert predict_bytes([], 1) is None
    assert predict_bytes([Measured(1, 1.0, None)], 2) is None
    assert predict_bytes([Measured(1, 1.0, 50)], 2) == 100
    assert predict_bytes([Measured(1, 1.0, 50), Measured(2, 1.0, 80)], 4) == 140


@given(cells=st.integers(1, 200), size=st.integers(1, 32))
def test_packs_hold_all_cells_and_are_as_few_and_as_equal_as_can_be(cells: int, size: int) -> None:
    sizes = divide(cells, size)
    assert sum(sizes) == cells
    assert len(sizes) == -(-cells // size)
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


def test_full_packs_and_a_rest_only_where_they_are_faster() -> None:
    linear = PackTable((Measured(1, 1 / 2.0, None), Measured(8, 8 / 9.0, None)))  # steps of 1 + lanes seconds
    assert divide(9, 8, linear) == [5, 4]
    # A step of 8 takes no longer than one of 4.
    steep = PackTable(tuple(Measured(size, size / s, None) for size, s in [(1, 1.0), (2, 2.0), (4, 4.0), (8, 4.0)]))
    assert divide(9, 8, steep) == [8, 1]


KEY = {"model": ["m", None, 3], "batch": 16}


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = PackTable((Measured(1, 10.5, 7), Measured(2, 20.0, None)), ended=True, most=3)
    assert read_table(tmp_path, KEY) is None
    write_table(tmp_path, KEY, table)
    assert read_table(tmp_path, KEY) == table
    assert read_table(tmp_path, {**KEY, "batch": 8}) is None


@pytest.mark.parametrize(
    "damage",
    [lambda v: "{", lambda v: "[]", lambda v: json.dumps({**v, "key": {}}), lambda v: json.dumps({**v, "measured": 3}),
     lambda v: json.dumps({**v, "measured": [{"size": 2, "tokens_per_s": 1.0, "bytes": 1}]}),
     lambda v: json.dumps({**v, "measured": [{"size": 1, "tokens_per_s": 0.0, "bytes": 1}]}),
     lambda v: json.dumps({k: x for k, x in v.items() if k != "ended"})],
)  # fmt: skip
def test_a_damaged_table_is_as_good_as_none(tmp_path: Path, damage: Callable[[dict[str, Any]], str]) -> None:
    write_table(tmp_path, KEY, table_of([1.0, 2.0]))
    (file,) = tmp_path.iterdir()
    file.write_text(damage(json.loads(file.read_text())))
    assert read_table(tmp_path, KEY) is None


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    write_table(tmp_path / "file", KEY, table_of([1.0]))
    assert read_table(tmp_path / "file", KEY) is None
