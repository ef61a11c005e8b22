from __future__ import annotations

import itertools

from src.analysis.tables import LAYOUTS, make_table, tabulated


def test_the_head_of_a_spectrum_is_whole_and_its_end_is_there() -> None:
    assert tabulated(1) == [1]
    assert tabulated(20) == list(range(1, 21))
    long = tabulated(1024)
    assert long[:32] == list(range(1, 33))
    assert long[-1] == 1024 and len(long) < 100
    assert all(b > a for a, b in itertools.pairwise(long))


def test_rows_become_columns() -> None:
    table = make_table("correlation", [("run", "q", 0, 0.5), ("run", "v", 0, None)], {"runs": ["run"]})
    assert table.columns == {"run": ("run", "run"), "letter": ("q", "v"), "layer": (0, 0), "cosine": (0.5, None)}
    assert (table.name, table.notes) == ("correlation", {"runs": ["run"]})
    assert set(make_table("size", [], {}).columns) == set(LAYOUTS["size"].columns)
