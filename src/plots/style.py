"""One look for all figures: a palette that colour-blind readers can tell apart, always with markers or line styles.

Colours after Okabe and Ito, "Color universal design" (2008), without the yellow that is too pale on white.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import fill
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

K = TypeVar("K")
INK, MUTED, GRID = "#1f2328", "#59636e", "#d8dee4"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")
LINES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
WIDTH = 5.2  # inches: 499 CSS pixels, one column of the page and not much more than a phone
EDGE, TITLE_LINE, NOTE_LINE = 0.07, 0.2, 0.16  # inches
TITLE_CHARACTERS, NOTE_CHARACTERS = 56, 82

# Lines to compare with: last in a legend.
REFERENCES = ("Pareto front", "head alone", "before training", "rank r itself")

LOOK: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "figure.titlesize": 11,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    # A dollar sign in the name of a model is a dollar sign.
    "text.parse_math": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "errorbar.capsize": 2.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "figure",
    "savefig.dpi": 160,
}


@dataclass(frozen=True)
class Drawing:
    """A figure before it is written.

    Attributes:
        name: of its files.
        title: also inside the figure.
        caption: how to read it: what is drawn, what intervals and lines mean.
    """

    name: str
    title: str
    caption: str
    figure: Figure


def new_figure(rows: int = 1, columns: int = 1, height: float = 3.1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of the common width and its axes row by row.

    Args:
        height: inches, of the axes with their labels; `finish` adds what title, legend and note take.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.ravel())


def new_panels(number: int, height: float = 2.2, **options: Any) -> tuple[Figure, list[Axes]]:
    """Two panels a row, those too many left blank; a single one takes the whole width."""
    if number == 1:
        return new_figure()
    rows = -(-number // 2)
    figure, axes = new_figure(rows, 2, 0.2 + height * rows, **options)
    for unused in axes[number:]:
        unused.set_axis_off()
    return figure, axes[:number]


def finish(figure: Figure, name: str, title: str, note: str, caption: str, *, legend: Sequence[Axes] = ()) -> Drawing:
    """Set the title and one legend of all axes above, what the figure rests on (n) below, and hand the figure on.

    Nothing of it lies inside the axes, so that it hides no data, and the figure grows by what it takes.
    """
    title, note = fill(title, TITLE_CHARACTERS), fill(note, NOTE_CHARACTERS)
    top = EDGE + TITLE_LINE * (title.count("\n") + 1)
    bottom = EDGE + NOTE_LINE * (note.count("\n") + 1)
    drawn = _legend(figure, legend)
    inches = (
        0.0 if drawn is None else drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer()).height / figure.dpi
    )
    plot = figure.get_figheight()
    height = plot + top + inches + bottom
    figure.set_figheight(height)
    figure.text(0.012, 1 - EDGE / height, title, va="top", size=11, weight="bold")
    figure.text(0.012, EDGE / height, note, va="bottom", size=8.5, color=MUTED)
    if drawn is not None:
        drawn.set_bbox_to_anchor((0, 1 - top / height))
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, bottom / height, 1, plot / height))
    return Drawing(name, title.replace("\n", " "), caption, figure)


def plot_middle(figure: Figure) -> float:
    """Height of the middle of the plot itself in a finished figure, as a share of the whole."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    _, bottom, _, height = engine.get()["rect"]
    return float(bottom + height / 2)


def _legend(figure: Figure, axes: Sequence[Axes]) -> Legend | None:
    """One legend for all axes, in as many columns as fit; None without labels."""
    handles = [ax.get_legend_handles_labels() for ax in axes]
    entries = {label: handle for pair in handles for handle, label in zip(*pair, strict=True)}
    if not entries:
        return None
    entries = {label: entries[label] for label in sorted(entries, key=lambda e: e in REFERENCES or " other " in e)}
    widths = [0.62 + 0.072 * len(label) for label in entries]  # inches: handle, gaps, and letters of the legend's size
    room = WIDTH - 0.2
    columns = next(n for n in range(len(widths), 0, -1) if n == 1 or _width(widths, n) <= room)
    return figure.legend(
        list(entries.values()), list(entries), loc="upper left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=columns
    )


def _width(entries: Sequence[float], columns: int) -> float:
    """Of a legend whose entries run down its columns, each as wide as its widest entry."""
    return sum(float(column.max()) for column in np.array_split(np.array(entries), columns))


def log_y(ax: Axes, low: float, high: float) -> None:
    """A logarithmic scale whose ticks are plain numbers; more of them where it spans little."""
    ax.set_yscale("log")
    axis = ax.yaxis
    decades = math.log10(high / low) if low > 0 else 9.0
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


@dataclass(frozen=True)
class Look:
    """How one series is told from the others."""

    color: str
    marker: str
    line: Any

    def options(self, **more: Any) -> dict[str, Any]:
        """For Axes.plot and Axes.errorbar."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.line, **more}


def looks(keys: Sequence[K]) -> dict[K, Look]:
    """A look for each key, in their order; the same keys get the same looks in every figure."""
    return {
        key: Look(color, marker, line)
        for key, color, marker, line in zip(keys, cycle(PALETTE), cycle(MARKERS), cycle(LINES), strict=False)
    }


def spell(targets: str) -> str:
    """``qkvo`` as readers write it: ``q,k,v,o``; words stay words."""
    return targets if targets in ("none", "mlp", "all") else ",".join(targets)
