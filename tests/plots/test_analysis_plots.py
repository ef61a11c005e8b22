from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from src.plots import ANALYSIS_PLOTS
from src.plots.layers import amplification
from src.plots.spectra import spectrum
from src.plots.style import Drawing
from src.plots.subspaces import subspace_base, subspace_matrices, subspace_ranks, subspace_seeds
from src.records import AnalysisTable
from tests.plots.studies import NAMES, RUN_A, RUN_B, analysis

DRAWN = [(name, plot) for name, plot in ANALYSIS_PLOTS if plot is not subspace_matrices]


@pytest.mark.parametrize(("name", "plot"), DRAWN)
def test_each_analysis_is_drawn_with_labels_and_n(name: str, plot: Callable[..., Drawing | None]) -> None:
    drawing = plot(analysis(name), NAMES)
    assert drawing is not None
    assert any(text.get_text().startswith(("n =", "q,v")) and "n =" in text.get_text() for text in drawing.figure.texts)
    labels = [drawing.figure.get_supylabel(), *(ax.get_ylabel() for ax in drawing.figure.axes)]
    assert any(labels) or name == "forgetting"
    assert any(ax.get_xlabel() for ax in drawing.figure.axes)


@pytest.mark.parametrize(("name", "plot"), ANALYSIS_PLOTS)
def test_an_analysis_without_rows_draws_nothing(name: str, plot: Callable[..., Drawing | None]) -> None:
    full = analysis(name)
    assert plot(AnalysisTable(name, dict.fromkeys(full.columns, ()), "", {}), NAMES) is None


def test_heat_maps_show_phi_beside_chance_on_one_scale() -> None:
    drawing = subspace_ranks(analysis("subspace"), NAMES)
    assert drawing is not None
    images = [ax.images[0] for ax in drawing.figure.axes if ax.images]
    assert len(images) == 8 and len({image.get_clim() for image in images}) == 1
    i, j = np.mgrid[1:3, 1:5]
    middle, average, before, random = (np.asarray(image.get_array()) for image in images[:4])
    np.testing.assert_allclose(middle, 1 / (i + j + 1))
    np.testing.assert_allclose(average, np.mean([1 / (i + j + layer) for layer in range(3)], axis=0))
    assert (before == 0.5).all()
    np.testing.assert_allclose(random, np.maximum(i, j) / 100)
    assert "max(i, j) / d" in drawing.caption and "q,v r=2 and q,v r=4" in drawing.figure.texts[1].get_text()


def test_ranks_of_one_seed_which_start_nested_are_drawn_only_where_there_are_no_others() -> None:
    table = analysis("subspace")
    nested = [row | {"run_b": "nested", "start": 1.0, "phi": 1.0} for row in table.rows() if row["kind"] == "ranks"]

    def average(rows: Sequence[Mapping[str, Any]]) -> Any:
        columns = {name: tuple(row[name] for row in rows) for name in table.columns}
        drawing = subspace_ranks(AnalysisTable("subspace", columns, "", {}), NAMES)
        assert drawing is not None
        return np.asarray(drawing.figure.axes[1].images[0].get_array())

    assert (average(nested) == 1).all()
    np.testing.assert_array_equal(average([*table.rows(), *nested]), average(table.rows()))


def test_kinds_that_are_missing_are_not_drawn() -> None:
    table = analysis("subspace")
    assert subspace_seeds(table, NAMES) is not None
    assert subspace_matrices(table, NAMES) is None


def test_lines_are_means_over_runs_of_a_kind() -> None:
    table = analysis("amplification")
    factors = [
        value if run == RUN_A else None
        for value, run in zip(table.columns["factor"], table.columns["run"], strict=True)
    ]
    partly = AnalysisTable("amplification", {**table.columns, "factor": factors}, "", {})
    drawing = amplification(partly, NAMES)
    assert drawing is not None
    lines = drawing.figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["q,v r=2"]
    assert np.asarray(lines[0].get_ydata()).tolist() == [10.0, 11.0, 12.0]


def test_adapters_from_elsewhere_keep_their_names() -> None:
    drawing = spectrum(analysis("spectrum"), {})
    assert drawing is not None
    assert [line.get_label() for line in drawing.figure.axes[0].lines] == [RUN_A, RUN_B]


def test_heat_maps_name_the_numbers_at_which_phi_was_computed() -> None:
    """An analysis of rank 64 holds 1, 2, 4, ... and not all 64: the axes must not count cells."""
    table = analysis("subspace")
    stretched = {**table.columns, "j": [2 ** int(j or 0) for j in table.columns["j"]]}
    drawing = subspace_seeds(AnalysisTable("subspace", stretched, "", {}), NAMES)
    assert drawing is not None
    assert [label.get_text() for label in drawing.figure.axes[4].get_xticklabels()] == ["2", "4", "8", "16"]


def test_without_a_start_there_is_no_panel_for_it() -> None:
    drawing = subspace_base(analysis("subspace"), NAMES)
    assert drawing is not None
    assert [ax.get_title(loc="left") for ax in drawing.figure.axes[:3]] == ["layer 1", "all layers", "random"]
    assert "Before training" not in drawing.caption
