"""How sensitive each configuration is to the learning rate."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import quantiles

from matplotlib.axes import Axes
from matplotlib.markers import CARETDOWN, CARETUP
from matplotlib.ticker import NullLocator

from src.comparison import Cell, Table
from src.comparison.findings import Findings
from src.plots.families import drawn_families, others_words, thinned
from src.plots.measure import axis_label, counted, examples_of
from src.plots.style import INK, Drawing, Look, finish, looks, new_panels, plot_middle
from src.spec import UNFROZEN

Curve = Mapping[float, Cell]
# Family, what it is sorted by, and how its size is written.
Configuration = tuple[str, tuple[float, float], str]
MOST_CURVES = 6  # in one panel
MOST_SIZES, MOST_RATES, MOST_TICKS = 12, 60, 12
FENCE = 3  # interquartile ranges, Tukey's outer fence
FEWEST_FOR_A_FENCE = 8
BEYOND = " A triangle at the edge is a score beyond the axis: outside Tukey's outer fence (3 interquartile ranges)."


def score_by_learning_rate(findings: Findings) -> Drawing | None:
    """Validation score by learning rate, a panel for each target set or method; None where only one rate was tried."""
    table = findings.table
    cells = [*table.ranked, *(problem.cell for problem in table.problems if not problem.cell.scored)]
    chosen = {id(contender.choice.cell) for contender in findings.contenders}
    every = _curves(cells)
    curves = _legible(table, every, chosen)
    rates = sorted({rate for curve in curves.values() for rate in curve})
    if len(rates) < 2:
        return None
    panels = _panels(table, curves)
    fence = _fence(table, [cell for curve in curves.values() for cell in curve.values()])
    figure, axes = new_panels(len(panels), sharey=True)
    styles = looks(list(dict.fromkeys(label for panel in panels.values() for label in panel)))
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        _draw_panel(ax, panel, styles, chosen, fence)
        ax.set_title(name, loc="left")
        _rate_axis(ax, rates)
    label = figure.supylabel(axis_label(table, "validation"), fontsize=9.5)
    scored = [record for cell in cells for record in cell.scored]
    seeds = counted(sorted({len(cell.scored) for cell in cells if cell.scored}), "seed")
    size = " x ".join([part for part in (seeds, *examples_of(scored, "validation")) if part])
    caption = (
        "A ring marks the learning rate that was chosen. Bars reach from the worst to the best seed. A cross at the "
        'bottom is a learning rate at which no seed has come to a score; "Not ranked" says why.'
        f"{BEYOND if fence else ''}{others_words(table, grey=False)}{_left_out(every)}"
    )
    title = f"Validation {table.metric} against learning rate"
    drawing = finish(figure, "score-by-learning-rate", title, f"{table.title}; n = {size}", caption, legend=axes)
    # Beside the panels: the middle of the figure lies inside a tall legend.
    label.set_y(plot_middle(figure))
    return drawing


def _curves(cells: Sequence[Cell]) -> dict[Configuration, dict[float, Cell]]:
    """By family and size, for each learning rate the first and so the best cell."""
    curves: dict[Configuration, dict[float, Cell]] = defaultdict(dict)
    for cell in cells:
        if cell.adapted and (cell.size_text or cell.spec.method.name in UNFROZEN):
            curves[cell.family, cell.size, cell.size_text].setdefault(cell.spec.optim.lr, cell)
    return curves


def _legible(
    table: Table, curves: Mapping[Configuration, Curve], chosen: Collection[int]
) -> dict[Configuration, dict[float, Cell]]:
    """Of very many families the best, of very many sizes and learning rates some at even distances."""
    sizes = {family: [key for key in sorted(curves) if key[0] == family] for family in drawn_families(table)}
    kept = {}
    for key in [key for own in sizes.values() for key in thinned(own, MOST_SIZES)]:
        rates = set(thinned(sorted(curves[key]), MOST_RATES))
        kept[key] = {rate: cell for rate, cell in curves[key].items() if rate in rates or id(cell) in chosen}
    return kept


def _left_out(curves: Mapping[Configuration, Curve]) -> str:
    sizes = max(Counter(family for family, _, _ in curves).values())
    parts = [f"{MOST_SIZES} sizes"] * (sizes > MOST_SIZES)
    parts += [f"{MOST_RATES} learning rates"] * (max(map(len, curves.values())) > MOST_RATES)
    return f" Of more than {' or '.join(parts)} some are left out (table.csv has all)." if parts else ""


def _panels(table: Table, curves: Mapping[Configuration, Curve]) -> dict[str, dict[str, Curve]]:
    """Curves by label: a panel for each family, or a single one where each family has one size, as at one budget."""
    names = drawn_families(table)
    panels: dict[str, dict[str, Curve]] = {family: {} for family in names}
    for (family, _, size), curve in sorted(curves.items(), key=lambda item: item[0]):
        panels[family][size] = curve
    if max(map(len, panels.values())) > 1 or len(panels) == 1:
        return {names[family]: panel for family, panel in panels.items() if panel}
    named = {f"{names[f]} {size}".rstrip(): curve for f, panel in panels.items() for size, curve in panel.items()}
    if len(named) <= MOST_CURVES:
        return {"": named}
    of_lora = {name: next(iter(curve.values())).has_lora for name, curve in named.items()}
    kinds = {
        kind: {name: curve for name, curve in named.items() if of_lora[name] is own}
        for kind, own in (("LoRA and its variants", True), ("other methods", False))
    }
    return kinds if all(kinds.values()) else {"": named}


def _fence(table: Table, cells: Sequence[Cell]) -> tuple[float, float] | None:
    """The axis' limits where far worse scores than the others' would flatten these; None where there are none."""
    known = [cell.validation for cell in cells if cell.validation is not None]
    if len(known) < FEWEST_FOR_A_FENCE:
        return None
    low, _, high = quantiles(known, n=4)
    reach = FENCE * (high - low)
    kept = [score for score in known if (score <= high + reach if table.lower_is_better else score >= low - reach)]
    if len(kept) == len(known) or reach == 0:
        return None
    margin = 0.08 * (max(kept) - min(kept))
    return min(kept) - margin, max(kept) + margin


def _draw_panel(
    ax: Axes,
    curves: Mapping[str, Curve],
    styles: Mapping[str, Look],
    chosen: Collection[int],
    fence: tuple[float, float] | None,
) -> None:
    if fence:
        ax.set_ylim(*fence)
    for label, curve in curves.items():
        scored = {rate: cell for rate, cell in sorted(curve.items()) if cell.scored}
        look = styles[label]
        ax.plot([], [], label=label, **look.options())
        if scored:
            means = [cell.validation for cell in scored.values()]
            ax.errorbar(list(scored), means, yerr=_spread(scored), elinewidth=1, **look.options())  # type: ignore[arg-type]
        for rate, cell in curve.items():
            if not cell.scored:
                ax.plot(rate, 0.04, "x", color=look.color, transform=ax.get_xaxis_transform(), markeredgewidth=1.8)
            elif fence and cell.validation is not None and not fence[0] <= cell.validation <= fence[1]:
                edge, marker = (0.03, CARETDOWN) if cell.validation < fence[0] else (0.97, CARETUP)
                ax.plot(rate, edge, marker=marker, color=look.color, transform=ax.get_xaxis_transform())
            elif id(cell) in chosen and cell.validation is not None:
                ax.plot(rate, cell.validation, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)


def _spread(curve: Curve) -> list[list[float]]:
    below, above = [], []
    for cell in curve.values():
        scores = [(record.metrics.validation or {}).get(cell.spec.task.metric) for record in cell.scored]
        known = [score for score in scores if score is not None]
        mean = sum(known) / len(known)
        below.append(mean - min(known))
        above.append(max(known) - mean)
    return [below, above]


def _rate_axis(ax: Axes, rates: Sequence[float]) -> None:
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    if len(rates) > MOST_TICKS:
        return
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=0 if len(rates) < 5 else 40)
    ax.xaxis.set_minor_locator(NullLocator())
