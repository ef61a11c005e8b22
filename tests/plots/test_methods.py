from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer

from src.plots.measure import families, family_looks
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
    assert names[:2] == ["q,v", "q,k,v,o"] and names[2:4] == ["DoRA q,v", "LoRA+ q,v"]
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
    assert names[:2] == ["q,v r=8", "DoRA q,v r=8"]
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
    assert {"q,v", "DoRA q,v", "prefix", "full fine-tuning"} <= {*labels(points.figure.axes[0])}
    ranks = score_by_rank(findings)
    assert ranks is not None and "prefix" not in labels(ranks.figure.axes[0])
    rates = score_by_learning_rate(findings_of(*methods_at_one_budget()))
    assert rates is not None and len(rates.figure.axes) == 1
    assert {"q,v r=8", "prefix m=16", "BitFit"} <= {*labels(rates.figure.axes[0])}


def test_the_axis_label_of_the_rates_stands_beside_the_panels_also_below_a_tall_legend() -> None:
    drawing = score_by_learning_rate(findings_of(*methods_at_one_budget()))
    assert drawing is not None
    figure = drawing.figure
    FigureCanvasAgg(figure).draw()
    (label,) = (text for text in figure.texts if text.get_text().startswith("validation accuracy"))
    assert label.get_window_extent().y1 < figure.legends[0].get_window_extent().y0
