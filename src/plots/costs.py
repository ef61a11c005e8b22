"""What the cells cost: wall time and memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

from matplotlib.axes import Axes

from src.comparison import Cell, Table
from src.comparison.findings import Findings
from src.plots.dodge import side_by_side
from src.plots.families import MOST_POINTS, drawn_families, family_looks, others_label, others_words
from src.plots.measure import counted
from src.plots.scores import draw_others, parameter_axis, parameter_words
from src.plots.style import Drawing, finish, new_figure
from src.records import RunRecord

GB = 10**9
MERGED = " Each point is the mean over the cells of one size: there are too many to draw each."
Cost = Callable[[RunRecord], float | None]


def time_and_memory(findings: Findings) -> Drawing | None:
    """Mean over seeds of each cell's time and peak memory; None where all cells have equally many parameters."""
    table = findings.table
    cells = [cell for cell in table.ranked if cell.adapted and cell.adapter_parameters is not None]
    known = [cost for cost in COSTS if any(_mean(cell, cost[1]) is not None for cell in cells)]
    if len({cell.adapter_parameters for cell in cells}) < 2 or not known:
        return None
    figure, axes = new_figure(len(known), 1, 0.4 + 1.9 * len(known), sharex=True)
    for ax, (label, cost) in zip(axes, known, strict=True):
        _draw_costs(ax, cells, cost, table)
        ax.set_ylabel(label)
        ax.set_ylim(0, 1.1 * ax.dataLim.y1)
    parameter_axis(axes[-1], [cell.adapter_parameters or 0 for cell in cells], parameter_words(table))
    seeds = counted(sorted({len(cell.scored) for cell in cells}), "seed")
    note = f"{table.title}; n = {counted([len(cells)], 'cell')}, each over {seeds}; {_device(cells)}"
    caption = (
        "Time is a cell's equal share of its pack's wall time in training and evaluation. Memory is the peak of the "
        "pack in which a cell trained, with all of its lanes; on a CPU it includes what the process kept of earlier "
        "packs, so it does not compare methods. Points of nearly the same size stand side by side."
        f"{others_words(table, grey=True)}{MERGED if len(cells) > MOST_POINTS else ''}"
    )
    return finish(figure, "time-and-memory", "Time and memory of each cell", note, caption, legend=axes)


def _time(record: RunRecord) -> float | None:
    return record.time.get("total_s")


def _memory(record: RunRecord) -> float | None:
    peak = record.memory.get("peak_bytes")
    return None if peak is None else peak / GB


COSTS: tuple[tuple[str, Cost], ...] = (("wall time (s)", _time), ("peak memory (GB)", _memory))


def _mean(cell: Cell, cost: Cost) -> float | None:
    values = [value for record in cell.scored if (value := cost(record)) is not None]
    return fmean(values) if values else None


def _draw_costs(ax: Axes, cells: Sequence[Cell], cost: Cost, table: Table) -> None:
    points = _points(cells, cost)
    names, looks = drawn_families(table), family_looks(table)
    order = {family: place for place, family in enumerate(looks)}
    sizes = sorted({(family, size) for family, size, _ in points}, key=lambda pair: (order[pair[0]], pair[1]))
    places = dict(zip(sizes, side_by_side([size for _, size in sizes]), strict=True))
    for family, name in names.items():
        own = [(places[family, size], value) for other, size, value in points if other == family]
        if own:
            x, y = zip(*own, strict=True)
            ax.plot(x, y, label=name, alpha=0.8, **looks[family].options(linestyle="none"))
    others = [(places[family, size], value) for family, size, value in points if family not in names]
    if others:
        draw_others(ax, others, others_label(table))


def _points(cells: Sequence[Cell], cost: Cost) -> list[tuple[str, int, float]]:
    """Family, parameters and cost of each cell; of very many cells one mean for each size."""
    known = [
        (cell.family, cell.adapter_parameters or 0, value) for cell in cells if (value := _mean(cell, cost)) is not None
    ]
    if len(cells) <= MOST_POINTS:
        return known
    merged: dict[tuple[str, int], list[float]] = defaultdict(list)
    for family, size, value in known:
        merged[family, size].append(value)
    return [(*at, fmean(values)) for at, values in merged.items()]


def _device(cells: Sequence[Cell]) -> str:
    names = {str(record.env.get("device_name") or "unknown device") for cell in cells for record in cell.scored}
    return ", ".join(sorted(names))
