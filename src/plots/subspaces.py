"""Subspace similarity phi(A, B, i, j) (paper, section 7.2, figures 3, 4 and 8), beside what chance gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from src.plots.layers import RunNames, frame
from src.plots.measure import counted
from src.plots.style import Drawing, finish, new_figure
from src.records import AnalysisTable

MOST_ROWS, MOST_TICKS = 4, 4
BEFORE = "before training"
# phi of one subspace inside another is 1, but for rounding.
NESTED = 0.999
KINDS = {
    "ranks": ("Subspaces of two ranks", "two ranks, of two seeds where there are two (paper, figure 3)"),
    "seeds": ("Subspaces of two seeds", "the same rank from two seeds (paper, figure 4)"),
    "base": ("Subspaces of dW and W0", "dW against the frozen W0 of the same matrix (paper, figure 8)"),
    "matrices": ("Subspaces of two matrices", "two matrices of the same layer and run"),
}
CHANCE = "Random is what random subspaces would give, max(i, j) / d."
START = (
    " Before training is phi of the two A at their start: of one seed, a lower rank starts inside a higher one, so "
    "what was learnt is what exceeds it."
)


@dataclass(frozen=True)
class Maps:
    """One row of the figure.

    Attributes:
        i, j: numbers of directions at which phi was computed, not necessarily all.
        panels: phi [i, j] by title: in the middle layer, over all layers, before training where that is known, by
            chance.
    """

    label: str
    i: list[int]
    j: list[int]
    panels: dict[str, NDArray[np.float64]]


def subspace_ranks(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """Paper, figure 3."""
    return _heat_maps(table, names, "ranks")


def subspace_seeds(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """Paper, figure 4."""
    return _heat_maps(table, names, "seeds")


def subspace_base(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """Paper, figure 8."""
    return _heat_maps(table, names, "base")


def subspace_matrices(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """The same between matrices."""
    return _heat_maps(table, names, "matrices")


def _heat_maps(table: AnalysisTable, names: RunNames, kind: str) -> Drawing | None:
    rows = frame(table)
    rows = rows[rows["kind"] == kind].dropna(subset=["phi"])
    if rows.empty:
        return None
    rows = _largest_pairs(_apart(rows) if kind == "ranks" else rows)
    maps = [_maps(own, str(a), str(b)) for (a, b), own in rows.groupby(["letter_a", "letter_b"], sort=False)]
    maps = maps[:MOST_ROWS]
    columns = len(maps[0].panels)
    figure, axes = new_figure(len(maps), columns, 0.5 + 1.75 * len(maps), sharex=True, sharey=True)
    top = max(0.1, *(float(np.nanmax(panel)) for m in maps for panel in m.panels.values()))
    image = None
    for row, m in enumerate(maps):
        image = _draw_row(axes[columns * row : columns * (row + 1)], m, top)
    for ax in axes[-columns:]:
        ax.set_xlabel("j (directions)")
    _color_bar(figure, axes, image)
    title, what = KINDS[kind]
    pairs = rows[["run_a", "run_b"]].drop_duplicates()
    layers = counted([rows["layer"].nunique()], "layer")
    note = f"{_pair_label(pairs, names)}; n = {counted([len(pairs)], 'pair')}, {layers}"
    caption = f"phi of the top i and the top j directions of {what}: 1 is one inside the other, 0 orthogonal. {CHANCE}"
    caption += START if BEFORE in maps[0].panels else ""
    return finish(figure, f"subspace-{kind}", title, note, caption)


def _apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Without pairs that started one inside the other, as ranks of one seed do, where there are others."""
    if "start" not in rows:
        return rows
    nested = rows.groupby(["run_a", "run_b"])["start"].transform("max") > NESTED
    return rows if nested.all() else rows[~nested]


def _largest_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Pairs of the largest smaller rank, then of the largest larger one; the others are in the table."""
    rows = rows.assign(run_b=rows["run_b"].fillna("W0").astype(str), run_a=rows["run_a"].astype(str))
    shapes = rows.groupby(["run_a", "run_b"])[["i", "j"]].transform("max")
    keys = list(zip(shapes.min(axis=1), shapes.max(axis=1), strict=True))
    largest = max(keys)
    return rows[[key == largest for key in keys]]


def _maps(rows: pd.DataFrame, letter_a: str, letter_b: str) -> Maps:
    layers = sorted(rows["layer"].unique())
    middle = layers[len(layers) // 2]
    label = f"W_{letter_a}" if letter_a == letter_b else f"W_{letter_a}, W_{letter_b}"
    panels = {f"layer {int(middle)}": _grid(rows[rows["layer"] == middle], "phi"), "all layers": _grid(rows, "phi")}
    if "start" in rows and rows["start"].notna().all():
        panels[BEFORE] = _grid(rows, "start")
    panels["random"] = _grid(rows, "random")
    numbers = {name: sorted({int(number) for number in rows[name]}) for name in ("i", "j")}
    return Maps(label, numbers["i"], numbers["j"], panels)


def _grid(rows: pd.DataFrame, value: str) -> NDArray[np.float64]:
    return rows.pivot_table(index="i", columns="j", values=value, aggfunc="mean").to_numpy(dtype=np.float64)


def _draw_row(axes: list[Axes], maps: Maps, top: float) -> AxesImage:
    for ax, (title, values) in zip(axes, maps.panels.items(), strict=True):
        image = ax.imshow(values, vmin=0, vmax=top, cmap="viridis", aspect="auto", interpolation="none")
        ax.grid(visible=False)
        ax.set_xticks(*_ticks(maps.j))
        ax.set_yticks(*_ticks(maps.i))
        ax.set_title(title, loc="left", size=8.5)
    axes[0].set_ylabel(f"{maps.label}\ni (directions)")
    return image


def _ticks(numbers: list[int]) -> tuple[list[int], list[str]]:
    """Places and labels of the first, the last and a few between; the numbers may be unevenly spaced."""
    last = len(numbers) - 1
    places = sorted({round(last * part / (MOST_TICKS - 1)) for part in range(MOST_TICKS)})
    return places, [str(numbers[place]) for place in places]


def _color_bar(figure: Figure, axes: list[Axes], image: AxesImage | None) -> None:
    if image is not None:
        figure.colorbar(image, ax=axes, label="phi (0 to 1)", fraction=0.05, pad=0.02, aspect=5 * len(axes))


def _pair_label(pairs: pd.DataFrame, names: RunNames) -> str:
    labels = {" and ".join(_name(str(run), names) for run in (pair.run_a, pair.run_b)) for pair in pairs.itertuples()}
    return ", ".join(sorted(labels)) if len(labels) <= 2 else f"{len(labels)} kinds of pairs"


def _name(run: str, names: RunNames) -> str:
    return f"{names[run][0]} r={names[run][1]}" if run in names else run
