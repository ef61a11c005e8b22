from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from src.comparison import Contender, Estimate
from src.plots.costs import time_and_memory
from src.plots.measure import axis_label
from src.plots.rates import score_by_learning_rate
from src.plots.scores import matrices_at_budget, pareto_front, score_by_parameters, score_by_rank, short_count
from src.plots.style import Drawing
from tests.plots.studies import findings_of, grid_of_runs, run
from tests.record_factory import make_record, make_spec, one_table

LANGUAGE: dict[str, Any] = {"task__kind": "causal_lm", "task__prompt": "{text}", "task__completion": "{label}"}


def drawn(drawing: Drawing | None) -> tuple[Drawing, list[Axes]]:
    assert drawing is not None
    return drawing, list(drawing.figure.axes)


def texts(drawing: Drawing) -> str:
    return " ".join(text.get_text() for text in drawing.figure.texts)


def series(ax: Axes, label: str) -> tuple[list[float], list[float], list[tuple[float, float]]]:
    """x, y and the bars' ends of one labelled series."""
    (found,) = (c for c in ax.containers if isinstance(c, ErrorbarContainer) and c.get_label() == label)
    line, _, (bars,) = found.lines
    return (
        list(np.asarray(line.get_xdata())),
        list(np.asarray(line.get_ydata())),
        [(s[0][1], s[1][1]) for s in bars.get_segments()],
    )


def test_the_bars_of_the_rank_figure_are_the_intervals_of_the_findings() -> None:
    findings = findings_of(*grid_of_runs())
    drawing, (ax,) = drawn(score_by_rank(findings))
    _, y, bars = series(ax, "q,k,v,o")
    own = sorted((c for c in findings.contenders if c.label.startswith("qkvo")), key=lambda c: c.choice.cell.size)
    assert [c.test.mean for c in own if c.test] == pytest.approx(y)
    ends = [(c.test.over_seeds.low, c.test.over_seeds.high) for c in own if c.test and c.test.over_seeds]
    assert [end for pair in bars for end in pair] == pytest.approx([end for pair in ends for end in pair])
    assert ax.get_ylabel() == "test accuracy (share of examples)" and ax.get_xlabel() == "rank r"
    assert "n = 3 seeds x 1,500 test examples" in texts(drawing)
    assert "t intervals over seeds" in drawing.caption


def test_one_seed_draws_no_bars_and_says_so() -> None:
    drawing, (ax,) = drawn(score_by_rank(findings_of(*grid_of_runs(seeds=1))))
    _, y, bars = series(ax, "q")
    assert bars == [(value, value) for value in y]
    assert "no intervals" in drawing.caption and "n = 1 seed " in texts(drawing)


def test_validation_takes_the_place_of_a_missing_test() -> None:
    records = [make_record(make_spec("qv", rank), 0.9 + rank / 100, None) for rank in (1, 2)]
    drawing, (ax,) = drawn(score_by_rank(findings_of(*records)))
    assert ax.get_ylabel().startswith("validation accuracy") and drawing.title.startswith("Validation")


def test_figures_that_would_say_nothing_are_not_drawn() -> None:
    one = findings_of(run("qv", 4, 0.8))
    for plot in (score_by_parameters, score_by_rank, matrices_at_budget, score_by_learning_rate, time_and_memory):
        assert plot(one) is None
    # Equally many parameters, so one rank for each target set: neither size nor rank is an axis.
    same = findings_of(run("q", 4, 0.8), run("qv", 2, 0.81), run("qkvo", 1, 0.82))
    assert score_by_parameters(same) is None and score_by_rank(same) is None and time_and_memory(same) is None


def test_nothing_scored_draws_nothing() -> None:
    failed = findings_of(make_record(make_spec(), status="failed"))
    for plot in (score_by_parameters, score_by_rank, matrices_at_budget, score_by_learning_rate, time_and_memory):
        assert plot(failed) is None


def test_matrices_share_a_size_and_stand_best_first() -> None:
    findings = findings_of(run("q", 4, 0.8), run("qv", 2, 0.82), run("qkvo", 1, 0.81), run("qkvo", 8, 0.9))
    drawing, (ax,) = drawn(matrices_at_budget(findings))
    assert [label.get_text().split("  ")[0] for label in ax.get_yticklabels()] == ["q,v", "q,k,v,o", "q"]
    assert "3,072 adapter parameters each" in drawing.title and "place" not in drawing.caption


def test_matrices_have_a_place_where_seeds_tell_them_apart() -> None:
    q, qv = (0.8, 0.801, 0.803), (0.9, 0.902, 0.901)
    records = [run("q", 4, score, seed=seed) for seed, score in enumerate(q)]
    records += [run("qv", 2, score, seed=seed) for seed, score in enumerate(qv)]
    drawing, (ax,) = drawn(matrices_at_budget(findings_of(*records)))
    assert [label.get_text().split("  ")[:2] for label in ax.get_yticklabels()] == [["1.", "q,v"], ["2.", "q"]]
    assert "before the label is the place" in drawing.caption


def test_matrices_of_one_budget_are_best_first_where_lower_is_better() -> None:
    changes = {**LANGUAGE, "task__metric": "loss", "lora__budget": 9000}
    records = [
        make_record(make_spec(targets, None, **changes), score, score) for targets, score in (("q", 1.2), ("qv", 1.1))
    ]
    drawing, (ax,) = drawn(matrices_at_budget(findings_of(*records)))
    assert "at most 9,000" in drawing.title
    assert [label.get_text().split("  ")[0] for label in ax.get_yticklabels()] == ["q,v", "q"]
    assert ax.get_xlabel() == "test loss\n(nats per token, lower is better)"


@settings(max_examples=40, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12),
    lower=st.booleans(),
)
def test_the_front_holds_what_nothing_beats_and_nothing_else(points: list[tuple[int, int]], lower: bool) -> None:
    made = [(_sized(size), Estimate(float(score), 1, None, None)) for size, score in points]
    front = {(c.choice.cell.adapter_parameters, e.mean) for c, e in pareto_front(made, lower)}

    def beaten(size: int, score: int) -> bool:
        better = [(s, v) for s, v in points if s <= size and (v <= score if lower else v >= score)]
        return any((s, v) != (size, score) for s, v in better)

    assert front == {(768 * size, float(score)) for size, score in points if not beaten(size, score)}


def _sized(size: int) -> Contender:
    (contender,) = findings_of(run("q", size, 0.5)).contenders
    return contender


def test_learning_rates_mark_the_chosen_one_and_what_diverged() -> None:
    records = [*grid_of_runs(("q",), seeds=1), make_record(make_spec("q", 8, optim__lr=0.1), status="diverged")]
    drawing, (ax,) = drawn(score_by_learning_rate(findings_of(*records)))
    crosses = [np.asarray(line.get_xdata())[0] for line in ax.lines if line.get_marker() == "x"]
    rings = [np.asarray(line.get_xdata())[0] for line in ax.lines if line.get_markersize() == 12]
    assert crosses == [0.1] and rings == [0.002, 0.002]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.002", "0.004", "0.1"]
    assert "validation accuracy" in ax.get_ylabel() or "validation accuracy" in drawing.figure.get_supylabel()


def test_time_and_memory_have_units_and_start_at_zero() -> None:
    drawing, axes = drawn(time_and_memory(findings_of(*grid_of_runs())))
    assert [ax.get_ylabel() for ax in axes] == ["wall time (s)", "peak memory (GB)"]
    assert [ax.get_ylim()[0] for ax in axes] == [0, 0]
    assert np.asarray(axes[1].lines[0].get_ydata())[0] == pytest.approx((2**31 + 1) / 10**9)
    assert "8 cells" in texts(drawing)


def test_unknown_memory_leaves_time_alone() -> None:
    records = [make_record(make_spec("qv", rank)) for rank in (1, 2)]
    _, axes = drawn(time_and_memory(findings_of(*records)))
    assert [ax.get_ylabel() for ax in axes] == ["wall time (s)"]


@pytest.mark.parametrize(("value", "shown"), [(999, "999"), (1536, "1.54k"), (18_874_368, "18.9M"), (2e9, "2G")])
def test_counts_are_short(value: float, shown: str) -> None:
    assert short_count(value) == shown


@pytest.mark.parametrize(
    ("kind", "metric", "unit"),
    [("classification", "loss", "nats per example"), ("regression", "mse", "squared"), ("causal_lm", "loss", "token")],
)
def test_every_metric_has_its_unit(kind: str, metric: str, unit: str) -> None:
    changes = LANGUAGE if kind == "causal_lm" else {"task__kind": kind}
    table = one_table(make_record(make_spec(**changes, task__metric=metric)))
    assert unit in axis_label(table, "test") and "lower is better" in axis_label(table, "test")
