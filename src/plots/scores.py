"""Scores of configurations, each at its best learning rate: against parameters, against rank, at one budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from src.comparison.findings import Contender, Estimate, Findings
from src.comparison.groups import at_one_budget, by_rank
from src.comparison.table import Table
from src.plots.dodge import side_by_side
from src.plots.families import (
    OTHER,
    drawn_families,
    families,
    family_looks,
    others_label,
    others_words,
    thinned,
)
from src.plots.measure import Measured, error_bar, measure
from src.plots.style import INK, MUTED, Drawing, finish, new_figure

Point = tuple[Contender, Estimate]
MOST_BARS, MOST_TICKS = 24, 16
NEAR = 0.1  # of an axis' length, within which two labels would overlap
PLACE = (
    "The number before the label is the place; configurations that the data do not separate from the leader of their "
    "group share it. "
)


def score_by_parameters(findings: Findings) -> Drawing | None:
    """Every configuration by its trained parameters, with the Pareto front; None where all have equally many."""
    measured = measure(findings)
    every = _sized(measured)
    if len({_parameters(contender) for contender, _ in every}) < 2:
        return None
    front = pareto_front(every, findings.table.lower_is_better)
    points = _legible(every, front)
    figure, (ax,) = new_figure()
    places = _places(measured, points)
    _scatter(ax, measured, points, places)
    _draw_front(ax, front, places)
    draw_baseline(ax, measured)
    words = parameter_words(findings.table)
    parameter_axis(ax, [_parameters(contender) for contender, _ in points], words)
    ax.set_ylabel(measured.axis)
    title = f"{measured.split.capitalize()} {findings.table.metric} against {words}"
    caption = (
        "Each point is one configuration at the learning rate that validation chose. The dashed line is the Pareto "
        "front: nothing with fewer parameters has a better mean. Points of nearly the same size stand side by side. "
        f"{measured.interval_words}{others_words(findings.table, grey=True)}{_thinned_words(every, points)}"
    )
    return finish(figure, "score-by-parameters", title, measured.note(), caption, legend=[ax])


def score_by_rank(findings: Findings) -> Drawing | None:
    """One line for each target set of each method that has ranks; None where there is one rank only."""
    measured = measure(findings)
    found = by_rank(measured.contenders)
    names, looks = drawn_families(findings.table), family_looks(findings.table)
    lines = {family: found[family] for family in names if family in found}
    ranks = sorted({rank for line in lines.values() for rank in line})
    if max(map(len, lines.values()), default=0) < 2:
        return None
    figure, (ax,) = new_figure()
    for place, (family, line) in enumerate(lines.items()):
        dodge = 2 ** (0.09 * (place - (len(lines) - 1) / 2))
        points = [(rank * dodge, line[rank], measured.estimate(line[rank])) for rank in sorted(line)]
        x, estimates = [at for at, _, _ in points], [estimate for _, _, estimate in points]
        bars(ax, x, estimates, label=names[family], **looks[family].options())
        ring(ax, [(at, estimate.mean) for at, c, estimate in points if c is findings.sufficient.get(family)])
    draw_baseline(ax, measured)
    rank_axis(ax, ranks)
    ax.set_ylabel(measured.axis)
    kind = "method and " if findings.table.several_methods else ""
    title = f"{measured.split.capitalize()} {findings.table.metric} against rank, for each {kind}target set"
    return finish(figure, "score-by-rank", title, measured.note(), _rank_caption(measured), legend=[ax])


def matrices_at_budget(findings: Findings) -> Drawing | None:
    """Target sets that have the same budget or equally many parameters, best first; None where no two do."""
    measured = measure(findings)
    budget, members = at_one_budget([c for c in measured.contenders if c.choice.cell.has_lora])
    if len({contender.choice.cell.spec.lora.targets for contender in members}) < 2:
        return None
    rows = [(contender, measured.estimate(contender)) for contender in members]
    best_first = sorted(rows, key=lambda row: row[1].mean, reverse=not findings.table.lower_is_better)[:MOST_BARS]
    figure, (ax,) = new_figure(height=0.7 + 0.3 * len(best_first))
    looks = family_looks(findings.table)
    for y, (contender, estimate) in enumerate(best_first):
        look = looks[contender.choice.cell.family]
        ax.errorbar(estimate.mean, y, xerr=error_bar(estimate), **look.options(linestyle="none"))
    baseline = measured.baseline
    if baseline is not None:
        ax.axvline(baseline.mean, color=MUTED, linestyle=":", label="head alone")
    ax.set_yticks(range(len(best_first)), [_row_label(findings, contender) for contender, _ in best_first])
    ax.set_ylim(len(best_first) - 0.5, -0.5)
    ax.set_xlabel(measured.axis)
    ax.grid(visible=False, axis="y")
    given = any(contender.choice.cell.spec.lora.budget is not None for contender, _ in rows)
    size = f"at most {budget:,d} adapter parameters" if given else f"{budget:,d} adapter parameters each"
    title = f"Which matrices: {size}"
    cut = f" The best {MOST_BARS} of {len(rows)} target sets are drawn." if len(rows) > MOST_BARS else ""
    caption = (
        f"The same number of adapter parameters, spent on different matrices. {PLACE if findings.tested else ''}"
        f"{measured.interval_words}{cut}"
    )
    return finish(figure, "matrices", title, measured.note(), caption, legend=[ax])


def pareto_front(points: Sequence[Point], lower_is_better: bool) -> list[Point]:
    """Points that no other point beats with as few or fewer parameters, by rising parameters."""
    sign = 1.0 if lower_is_better else -1.0
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (_parameters(point[0]), sign * point[1].mean)):
        if not front or sign * point[1].mean < sign * front[-1][1].mean:
            front.append(point)
    return front


def parameter_words(table: Table) -> str:
    """What is counted: adapters, or all that is trained besides the head where methods add nothing to the model."""
    return "trained parameters" if table.several_methods else "adapter parameters"


def parameter_axis(ax: Axes, values: Sequence[int], words: str = "adapter parameters") -> None:
    """Logarithmic where the values span more than a factor of three."""
    ax.set_xlabel(f"{words} (number)")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    if min(values) > 0 and max(values) > 3 * min(values):
        ax.set_xscale("log")
        wide = max(values) > 300 * min(values)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def rank_axis(ax: Axes, ranks: Sequence[int]) -> None:
    """Powers of two, with ticks at the ranks that were run, of very many at powers of two; of two that are close the
    larger has the label."""
    ax.set_xscale("log", base=2)
    ranks = [rank for rank in ranks if len(ranks) <= MOST_TICKS or rank & (rank - 1) == 0]
    nexts = [*ranks[1:], math.inf]
    labels = [str(rank) if following >= 1.8 * rank else "" for rank, following in zip(ranks, nexts, strict=True)]
    ax.set_xticks(ranks, labels)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("rank r")


def short_count(value: float) -> str:
    """9.2k, 1.2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _sized(measured: Measured) -> list[Point]:
    points = zip(measured.contenders, measured.estimates, strict=True)
    return [(c, e) for c, e in points if c.choice.cell.adapter_parameters is not None]


def _parameters(contender: Contender) -> int:
    number = contender.choice.cell.adapter_parameters
    assert number is not None
    return number


def _places(measured: Measured, points: Sequence[Point]) -> dict[int, float]:
    """x by the contender's id; equal sizes in the order of the legend."""
    order = {family: place for place, family in enumerate(families(measured.findings.table))}
    contenders = sorted((contender for contender, _ in points), key=lambda c: order[c.choice.cell.family])
    return dict(zip(map(id, contenders), side_by_side([_parameters(c) for c in contenders]), strict=True))


def _scatter(ax: Axes, measured: Measured, points: Sequence[Point], places: Mapping[int, float]) -> None:
    looks, names = family_looks(measured.findings.table), drawn_families(measured.findings.table)
    for family, name in names.items():
        own = [point for point in points if point[0].choice.cell.family == family]
        if own:
            x = [places[id(contender)] for contender, _ in own]
            bars(ax, x, [e for _, e in own], label=name, **looks[family].options(linestyle="none"))
    others = [(places[id(c)], e.mean) for c, e in points if c.choice.cell.family not in names]
    if others:
        draw_others(ax, others, others_label(measured.findings.table))


def draw_others(ax: Axes, points: Sequence[tuple[float, float]], label: str) -> None:
    """Points without a look of their own, behind those that have one."""
    x, y = zip(*points, strict=True)
    ax.plot(x, y, label=label, zorder=1, **OTHER.options())


def _legible(points: Sequence[Point], front: Sequence[Point]) -> list[Point]:
    """The front, and of very many others some at even distances in the order of merit."""
    shown = {id(contender) for contender, _ in (*thinned(points), *front)}
    return [point for point in points if id(point[0]) in shown]


def _thinned_words(points: Sequence[Point], shown: Sequence[Point]) -> str:
    if len(shown) == len(points):
        return ""
    return f" {len(shown):,d} of {len(points):,d} configurations are drawn: the front and others at even distances."


def bars(ax: Axes, x: Sequence[float], estimates: Sequence[Estimate], **options: object) -> None:
    """Means with their intervals; `options` go to Axes.errorbar."""
    below, above = zip(*((low[0], high[0]) for low, high in map(error_bar, estimates)), strict=True)
    means = [estimate.mean for estimate in estimates]
    ax.errorbar(x, means, yerr=[below, above], elinewidth=1.1, **options)  # type: ignore[arg-type]


def _draw_front(ax: Axes, front: Sequence[Point], places: Mapping[int, float]) -> None:
    """The front and the sizes on it; of two labels that would overlap the one further along."""
    x, y = [places[id(contender)] for contender, _ in front], [estimate.mean for _, estimate in front]
    ax.step(x, y, where="post", color=INK, linestyle=(0, (4, 2)), linewidth=1, zorder=1, label="Pareto front")
    room = (math.log(max(places.values()) / min(places.values())), ax.dataLim.height)
    for at, following, (contender, estimate), ahead in zip(
        x, [*x[1:], math.inf], front, [*y[1:], math.inf], strict=True
    ):
        cell = contender.choice.cell
        if math.log(following / at) < NEAR * room[0] and abs(ahead - estimate.mean) < NEAR * room[1]:
            continue
        ax.annotate(
            cell.size_text or cell.method, (at, estimate.mean), xytext=(6, 5), textcoords="offset points", fontsize=8.5
        )


def draw_baseline(ax: Axes, measured: Measured) -> None:
    """A line for the head alone, where it was run."""
    estimate = measured.baseline
    if estimate is not None:
        ax.axhline(estimate.mean, color=MUTED, linestyle=":", linewidth=1.4, zorder=1, label="head alone")


def ring(ax: Axes, places: Sequence[tuple[float, float]]) -> None:
    """Mark points."""
    for x, y in places:
        ax.plot(x, y, marker="o", markersize=13, markerfacecolor="none", markeredgecolor=INK, linestyle="none")


def _rank_caption(measured: Measured) -> str:
    findings = measured.findings
    marked = ""
    if findings.sufficient:
        marked = (
            f" A ring marks the smallest rank of a target set that is shown to be within {findings.margin:g} of the "
            "best of all."
        )
    words = f"Each point is at the learning rate that validation chose.{marked} {measured.interval_words}"
    return f"{words}{others_words(findings.table, grey=False)}"


def _row_label(findings: Findings, contender: Contender) -> str:
    name = families(findings.table)[contender.choice.cell.family]
    return f"{f'{contender.place}.  ' if findings.tested else ''}{name}  {contender.choice.cell.size_text}"
