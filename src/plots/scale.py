"""What a study of many cells costs before and after its training: seconds and memory by number of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from src.plots.style import MUTED, Drawing, finish, log_y, looks, new_figure

# Number of cells, and seconds or bytes.
Points = Sequence[tuple[int, float]]
GB, MINUTE = 10**9, 60.0


def cost_by_cells(seconds: Mapping[str, Points], peaks: Mapping[str, Points], machine: str) -> Drawing:
    """A line for each stage, on logarithmic axes.

    Args:
        seconds: by stage, such as ``plan`` and ``report``.
        peaks: resident bytes at the peak by stage; may be empty.
        machine: for the note.
    """
    measured = [("time (s)", seconds, MINUTE)]
    if peaks:
        in_gb = {stage: [(cells, value / GB) for cells, value in points] for stage, points in peaks.items()}
        measured.append(("peak memory (GB)", in_gb, 1.0))
    styles = looks(list(dict.fromkeys([*seconds, *peaks])))
    figure, axes = new_figure(len(measured), 1, 0.4 + 2.1 * len(measured), sharex=True)
    for ax, (label, lines, goal) in zip(axes, measured, strict=True):
        for stage, points in lines.items():
            x, y = zip(*sorted(points), strict=True)
            ax.plot(x, y, label=stage, **styles[stage].options())
        _scale(ax, lines, goal)
        ax.set_ylabel(label)
    axes[-1].set_xlabel("cells of the study (number)")
    caption = (
        "Each stage in a process of its own. The dotted line is the limit: a minute, and 1 GB. Both axes are "
        "logarithmic: what grows in proportion to the cells rises by a decade in each decade."
    )
    return finish(figure, "cost-by-cells", "What many cells cost", machine, caption, legend=axes)


def _scale(ax: Axes, lines: Mapping[str, Points], goal: float) -> None:
    values = [value for points in lines.values() for _, value in points]
    ax.axhline(goal, color=MUTED, linestyle=":", zorder=1)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    log_y(ax, min(*values, goal), max(*values, goal))
