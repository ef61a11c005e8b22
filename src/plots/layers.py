"""Analyses that have one value for each adapted matrix: amplification, intruders, correlation, by layer."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from src.plots.measure import counted
from src.plots.style import Drawing, Look, finish, log_y, looks, new_panels
from src.records import AnalysisTable
from src.spec import LETTERS

RunNames = Mapping[str, tuple[str, int | None]]
MOST_GROUPS = 6
# More bands than this lie on top of one another and say nothing.
MOST_BANDS = 3


def amplification(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """Paper, table 7: ||dW||_F / ||U^T W V^T||_F, in every layer."""
    caption = (
        "How much dW amplifies directions that W does not emphasise: its Frobenius norm over that of W projected onto "
        "its top r singular directions (paper, section 7.3)."
    )
    label = "amplification factor (ratio)"
    return _by_layer(table, names, "factor", label=label, title="Amplification by layer", caption=caption, log=True)


def intruders(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """Singular vectors of W + dW without a close match in W (arXiv 2410.21228)."""
    caption = (
        f"Among the top {_numbers(table, 'examined')} singular vectors of W + dW, those whose cosine with every "
        f"singular vector of W is below {_numbers(table, 'threshold')}."
    )
    label = "intruder dimensions (number)"
    return _by_layer(table, names, "intruders", label=label, title="Intruder dimensions by layer", caption=caption)


def correlation(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """<dW, W> / (|dW| |W|), in every layer."""
    caption = "Cosine of dW and W as vectors of all their elements; 0 is no relation."
    title = "Correlation of dW with W by layer"
    return _by_layer(table, names, "cosine", label="cosine (-1 to 1)", title=title, caption=caption)


def frame(table: AnalysisTable) -> pd.DataFrame:
    """The table with a column ``group`` to come; missing numbers are NaN here only."""
    return pd.DataFrame({name: list(column) for name, column in table.columns.items()})


def with_groups(rows: pd.DataFrame, names: RunNames) -> pd.DataFrame:
    """Add ``group``: targets and rank of a run, or its rank alone where there would be too many lines to tell apart.

    Adapters from elsewhere keep the name that the analysis gave them.
    """
    runs = rows["run"].astype(str)
    full = [f"{names[run][0]} r={names[run][1]}" if run in names else run for run in runs]
    short = [f"r={names[run][1]}" if run in names else run for run in runs]
    order = [(names[run][1] or 0) if run in names else 0 for run in runs]
    return rows.assign(group=full if len(set(full)) <= MOST_GROUPS else short, order=order)


def groups_in_order(rows: pd.DataFrame) -> list[str]:
    """Low ranks first."""
    return list(rows.sort_values(["order", "group"], kind="stable")["group"].unique())


def letters_in_order(rows: pd.DataFrame) -> list[str]:
    """q k v o u g d, then whatever else there is."""
    present = set(rows["letter"].astype(str))
    return [letter for letter in LETTERS if letter in present] + sorted(present - set(LETTERS))


def sample_note(rows: pd.DataFrame) -> str:
    """``n = 4 runs, 6 layers``."""
    return f"n = {counted([rows['run'].nunique()], 'run')}, {counted([rows['layer'].nunique()], 'layer')}"


def _by_layer(
    table: AnalysisTable, names: RunNames, column: str, *, label: str, title: str, caption: str, log: bool = False
) -> Drawing | None:
    rows = frame(table).dropna(subset=[column])
    if rows.empty:
        return None
    rows = with_groups(rows, names)
    letters, styles = letters_in_order(rows), looks(groups_in_order(rows))
    figure, axes = new_panels(len(letters), sharey=True)
    for ax, letter in zip(axes, letters, strict=True):
        _draw_panel(ax, rows[rows["letter"] == letter], column, styles)
        ax.set_title(f"W_{letter}", loc="left")
        ax.set_xlabel("layer (from 0)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log:
            log_y(ax, float(rows[column].min()), float(rows[column].max()))
    figure.supylabel(label, fontsize=9.5)
    bands = "; bands reach from the smallest to the largest" if len(styles) <= MOST_BANDS else ""
    means = f"Lines are means over runs{bands}."
    return finish(figure, table.name, title, sample_note(rows), f"{caption} {means}", legend=axes)


def _draw_panel(ax: Axes, rows: pd.DataFrame, column: str, styles: Mapping[str, Look]) -> None:
    for group, look in styles.items():
        own = rows[rows["group"] == group].groupby("layer")[column].agg(["mean", "min", "max"])
        if not own.empty:
            if len(styles) <= MOST_BANDS:
                ax.fill_between(own.index, own["min"], own["max"], color=look.color, alpha=0.15, linewidth=0)
            ax.plot(own.index, own["mean"], label=str(group), **look.options())


def _numbers(table: AnalysisTable, column: str) -> str:
    present = sorted({value for value in table.columns.get(column, ()) if isinstance(value, int | float)})
    return " or ".join(f"{value:g}" for value in present) or "?"
