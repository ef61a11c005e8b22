from __future__ import annotations

import pytest

from src.reporting.paper import TABLE_5, TABLE_6, TABLE_6_RANKS, TABLE_7, TABLE_18, TABLE_18_RANKS
from src.reporting.sections.beside_paper import table_5, table_6, table_7, table_18
from tests.plots.studies import NAMES, analysis, findings_of, run


def test_the_papers_tables_fit_together() -> None:
    assert all(len(scores) == len(TABLE_6_RANKS) for task in TABLE_6.values() for scores in task.values())
    assert all(len(values) == len(TABLE_18_RANKS) for values in TABLE_18.values())
    # Tables 5 and 6 share cells: q at 8, q,v at 4 and q,k,v,o at 2, the first to be found in both.
    shared = {row.targets: row for row in TABLE_5 if row.targets in TABLE_6["WikiSQL"]}
    for targets, row in shared.items():
        place = TABLE_6_RANKS.index(row.rank)
        assert (TABLE_6["WikiSQL"][targets][place], row.wikisql) == (row.wikisql, row.wikisql)
    # One matrix at rank 8, two at 4 and four at 2 are equally many parameters.
    assert {len(row.targets) * row.rank for row in TABLE_5} == {8}
    assert [row.factor for row in TABLE_7] == pytest.approx([21.5, 1.9], rel=0.02)


def test_table_5_stands_beside_target_sets_of_one_size() -> None:
    grid = table_5(findings_of(run("q", 4, 0.8), run("qv", 2, 0.82), run("qkvo", 1, 0.81)))
    assert grid is not None
    rows = {row[0]: row[1:] for row in grid.rows}
    assert rows["q,v"] == ("4", "73.7", "91.3", "2", "0.8200")
    assert rows["k"] == ("8", "70.0", "90.8", "-", "-")
    assert table_5(findings_of(run("q", 4, 0.8), run("qv", 8, 0.82))) is None


def test_table_6_has_the_papers_ranks_and_ours() -> None:
    grid = table_6(findings_of(run("qv", 1, 0.8), run("qv", 8, 0.82), run("qv", 16, 0.83), run("k", 1, 0.5)))
    assert grid is not None
    assert grid.columns == ("matrices", "whose", "r=1", "r=2", "r=4", "r=8", "r=16", "r=64")
    assert grid.rows[0] == ("q,v", "paper, WikiSQL", "73.4", "73.3", "73.7", "73.8", "-", "73.5")
    assert grid.rows[2] == ("q,v", "yours", "0.8000", "-", "-", "0.8200", "0.8300", "-")
    assert len(grid.rows) == 3
    assert table_6(findings_of(run("k", 1, 0.8), run("k", 8, 0.8))) is None


def test_table_18_needs_a_curve() -> None:
    grid = table_18(findings_of(*(run("qv", rank, 0.8) for rank in (1, 2, 3))))
    assert grid is not None
    assert grid.columns[1:5] == ("r=1", "r=2", "r=3", "r=4")
    assert grid.rows[0][1:5] == ("1.23", "1.21", "-", "1.18") and grid.rows[2][:4] == ("yours, q,v", *["0.8000"] * 3)
    assert table_18(findings_of(run("qv", 1, 0.8), run("qv", 2, 0.8))) is None


def test_table_7_is_the_mean_over_runs_in_the_middle_layer() -> None:
    grid = table_7(analysis("amplification"), NAMES)
    assert grid is not None
    assert grid.rows[0] == ("paper, layer 48", "4", "0.32", "21.7", "0.02", "6.91", "21.6")
    assert grid.rows[2] == ("yours, layer 1 (q,v)", "2", "0.3", "20", "0.02", "3", "11")
