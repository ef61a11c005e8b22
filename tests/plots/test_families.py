"""Figures of studies with more families and configurations than a figure can tell apart."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from src.comparison import Findings
from src.plots import TABLE_PLOTS, render
from src.plots.families import (
    BEST_FAMILIES,
    MOST_FAMILIES,
    MOST_POINTS,
    drawn_families,
    families,
    family_looks,
    thinned,
)
from src.plots.scale import cost_by_cells
from src.spec import LETTERS
from tests.plots.studies import findings_of, grid_of_runs, run

SETS = ["".join(kept) for size in (1, 2) for kept in combinations(LETTERS, size)]


@pytest.fixture(scope="module")
def many() -> Findings:
    return findings_of(*grid_of_runs(SETS, (1, 2, 4), seeds=1))


def test_few_families_are_all_drawn() -> None:
    table = findings_of(*grid_of_runs(SETS[:MOST_FAMILIES], (1,), seeds=1)).table
    assert drawn_families(table) == families(table)


def test_of_many_families_those_of_the_best_cells_have_a_look_of_their_own(many: Findings) -> None:
    shown = drawn_families(many.table)
    first = list(dict.fromkeys(cell.family for cell in many.table.ranked if cell.adapted))
    assert set(shown) == set(first[:BEST_FAMILIES])
    own = [(look.color, look.marker) for family, look in family_looks(many.table).items() if family in shown]
    assert len(set(own)) == BEST_FAMILIES and len(family_looks(many.table)) == len(SETS)


def test_every_figure_of_too_many_families_says_what_is_left_out(many: Findings) -> None:
    others = f"{len(SETS) - BEST_FAMILIES} other target sets"
    drawn = [rendered for plot in (*TABLE_PLOTS["scores"], *TABLE_PLOTS["costs"]) if (rendered := render(plot, many))]
    told = {rendered.name: rendered.caption for rendered in drawn}
    assert f"The best 24 of {len(SETS)} target sets" in told.pop("matrices")
    assert len(told) == 4
    assert all(others in caption for caption in told.values())
    grey = {rendered.name for rendered in drawn if others in rendered.svg.decode()}
    assert grey == {"score-by-parameters", "time-and-memory"}


def test_very_many_configurations_are_thinned_and_the_front_stays() -> None:
    records = [
        run("qv", rank, 0.5 + 0.4 * (rank * 7919 % 1000) / 1000, lora__alpha=16.0) for rank in range(1, 2 * MOST_POINTS)
    ]
    rendered = render(TABLE_PLOTS["scores"][0], findings_of(*records))
    assert rendered is not None and "of 799 configurations are drawn: the front" in rendered.caption
    assert len(rendered.svg) < 400_000


def test_thinning_keeps_both_ends_and_at_even_distances() -> None:
    assert thinned(range(7), 10) == list(range(7))
    kept = thinned(range(1000), 100)
    assert (len(kept), kept[0], kept[-1]) == (100, 0, 999)
    assert {b - a for a, b in pairwise(kept)} <= {10, 11}


def test_learning_rates_of_a_random_search_leave_a_legible_axis() -> None:
    records = [run("qv", 4, 0.8 + rate / 1000, lr=0.001 * 1.02**rate) for rate in range(100)]
    rendered = render(TABLE_PLOTS["scores"][3], findings_of(*records))
    assert rendered is not None and "Of more than 60 learning rates some are left out" in rendered.caption


def test_cost_by_cells_has_a_line_for_each_stage_in_each_panel() -> None:
    seconds = {"plan": [(100, 0.1), (10_000, 9.0)], "report": [(100, 2.0), (10_000, 20.0)]}
    rendered = render(cost_by_cells, seconds, {"report": [(100, 2e8), (10_000, 5e8)]}, "two cores")
    assert rendered is not None
    svg = rendered.svg.decode()
    assert svg.count(">report<") == 1 and svg.count(">plan<") == 1
    assert "peak memory (GB)" in svg and "10,000" in svg and "two cores" in svg
