from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.markers import CARETDOWN

from src.plots.dodge import side_by_side
from src.plots.families import families, family_looks
from src.plots.methods import intrinsic_dimension, methods_at_budget
from src.plots.rates import score_by_learning_rate
from src.plots.scores import matrices_at_budget, score_by_parameters, score_by_rank
from tests.plots.studies import findings_of, grid_of_runs, methods_at_one_budget, run, subspaces


def labels(ax: Axes) -> list[str]:
    return [str(label) for label in ax.get_legend_handles_labels()[1]]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_families_are_target_sets_first_then_kin_then_other_methods() -> None:
    findings = findings_of(*methods_at_one_budget(seeds=1), *grid_of_runs(("qkvo",), seeds=1))
    names = list(families(findings.table).values())
    assert names[:2] == ["LoRA q,v", "LoRA q,k,v,o"] and names[2:4] == ["DoRA q,v", "LoRA+ q,v"]
    assert {*names[6:]} == {
        "Adapter^H", "Adapter^L", "BitFit", "full fine-tuning", "prefix", "random subspace (SAID)"
    }  # fmt: skip
    drawn = {(look.color, look.marker) for look in family_looks(findings.table).values()}
    assert len(drawn) == len(names)


def test_methods_stand_by_score_and_references_below() -> None:
    drawing = methods_at_budget(findings_of(*methods_at_one_budget()))
    assert drawing is not None and drawing.title == "Methods: at most 73,728 trained parameters"
    (ax,) = drawing.figure.axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[:2] == ["LoRA q,v r=8", "DoRA q,v r=8"]
    assert names[-2:] == ["full fine-tuning (reference)", "BitFit (reference)"]
    assert labels(ax) == ["LoRA", "head alone"]


def test_plain_lora_draws_no_methods_and_one_target_set_no_matrices() -> None:
    plain = findings_of(*grid_of_runs())
    assert methods_at_budget(plain) is None and intrinsic_dimension(plain) is None
    assert matrices_at_budget(findings_of(*methods_at_one_budget())) is None


def test_subspaces_and_ranks_share_an_axis_with_lines_to_reach() -> None:
    drawing = intrinsic_dimension(findings_of(*subspaces(full=0.88), run("none", 1, 0.5)))
    assert drawing is not None and "A ring marks d90" in drawing.caption
    (ax,) = drawing.figure.axes
    assert {*labels(ax)} == {"full fine-tuning", "90 % of it", "head alone", "random subspace (SAID)", "LoRA q,v"}
    curves = {c.get_label(): c.lines[0].get_xdata() for c in ax.containers if isinstance(c, ErrorbarContainer)}
    assert list(curves["random subspace (SAID)"]) == [64, 256, 1024, 4096]
    assert list(curves["LoRA q,v"]) == [1536, 6144] and texts(ax) == ["r=1", "r=4"]
    rings = [line for line in ax.lines if line.get_markersize() == 13]
    assert [list(line.get_xdata()) for line in rings] == [[1024]]
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "trained parameters (number)"


def test_without_full_fine_tuning_there_are_no_lines_to_reach() -> None:
    drawing = intrinsic_dimension(findings_of(*subspaces(full=None)))
    assert drawing is not None and "ring" not in drawing.caption
    assert not {"full fine-tuning", "90 % of it"} & {*labels(drawing.figure.axes[0])}


def test_other_figures_tell_methods_apart() -> None:
    findings = findings_of(*methods_at_one_budget(), *subspaces())
    points = score_by_parameters(findings)
    assert points is not None and points.figure.axes[0].get_xlabel() == "trained parameters (number)"
    assert {"LoRA q,v", "DoRA q,v", "prefix", "full fine-tuning"} <= {*labels(points.figure.axes[0])}
    ranks = score_by_rank(findings)
    assert ranks is not None and "prefix" not in labels(ranks.figure.axes[0])
    rates = score_by_learning_rate(findings_of(*methods_at_one_budget()))
    assert rates is not None
    lora, others = rates.figure.axes
    assert (lora.get_title(loc="left"), others.get_title(loc="left")) == ("LoRA and its variants", "other methods")
    assert {"LoRA q,v r=8", "PiSSA q,v r=8"} <= {*labels(lora)}
    assert {"prefix m=16", "BitFit"} <= {*labels(others)}


def test_the_axis_label_of_the_rates_stands_beside_the_panels_also_below_a_tall_legend() -> None:
    drawing = score_by_learning_rate(findings_of(*methods_at_one_budget()))
    assert drawing is not None
    figure = drawing.figure
    FigureCanvasAgg(figure).draw()
    (label,) = (text for text in figure.texts if text.get_text().startswith("validation accuracy"))
    assert label.get_window_extent().y1 < figure.legends[0].get_window_extent().y0


def test_a_rate_that_collapses_does_not_flatten_the_others() -> None:
    lost = run("qv", 4, 0.1, lr=0.1)
    drawing = score_by_learning_rate(findings_of(*methods_at_one_budget(), lost, run("qv", 4, 0.9)))
    assert drawing is not None and "A triangle at the edge" in drawing.caption
    low, high = drawing.figure.axes[0].get_ylim()
    assert 0.7 < low < 0.87 and high > 0.92
    (triangle,) = (line for ax in drawing.figure.axes for line in ax.lines if line.get_marker() == CARETDOWN)
    assert list(triangle.get_xdata()) == [0.1]
    plain = score_by_learning_rate(findings_of(*methods_at_one_budget()))
    assert plain is not None and "triangle" not in plain.caption


def test_points_of_one_size_stand_side_by_side_and_others_where_they_are() -> None:
    sizes = [73_728] * 6 + [22_713_216, 50_000]
    x = side_by_side(sizes)
    step = 0.013 * math.log10(22_713_216 / 50_000)
    gaps = np.diff(np.log10(sorted(x)))
    assert gaps.min() == pytest.approx(step) and x[:6] == sorted(x[:6])
    assert x[6:] == pytest.approx(sizes[6:])
    assert np.mean(np.log10(x[:6])) == pytest.approx(math.log10(73_728))


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_points_keep_the_order_of_their_sizes(sizes: list[int]) -> None:
    x = side_by_side(sizes)
    placed = [at for _, at in sorted(zip(sizes, x, strict=True))]
    assert all(after >= before * (1 - 1e-9) for before, after in pairwise(placed))


def test_points_of_one_budget_are_drawn_apart() -> None:
    drawing = score_by_parameters(findings_of(*methods_at_one_budget()))
    assert drawing is not None
    (ax,) = drawing.figure.axes
    x = [float(c.lines[0].get_xdata()[0]) for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert len({round(math.log10(at), 3) for at in x}) == len(x) == 11
