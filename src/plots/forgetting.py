"""What fine-tuning does to the base's own behaviour (after "LoRA learns less and forgets less", arXiv 2405.09673)."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from src.plots.layers import RunNames, frame, groups_in_order, with_groups
from src.plots.measure import counted
from src.plots.style import MUTED, PALETTE, Drawing, finish, new_figure
from src.records import AnalysisTable

LABELS = {
    "loss": "loss on whole texts of validation\n(nats per token, lower is better)",
    "cosine": "cosine of features with those of the base\n(-1 to 1, 1 is no drift)",
}
MOST_ROWS = 24


def forgetting(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """A row for each configuration: before and after; one figure for the first measure that the table has."""
    rows = frame(table).dropna(subset=["after"])
    if rows.empty:
        return None
    measure = next(iter(rows["measure"]))
    rows = with_groups(rows[rows["measure"] == measure], names)
    groups = groups_in_order(rows)[:MOST_ROWS]
    figure, (ax,) = new_figure(height=0.85 + 0.28 * len(groups))
    for y, group in enumerate(groups):
        _draw_row(ax, y, rows[rows["group"] == group])
    before = rows["before"].dropna()
    if not before.empty:
        ax.axvline(float(before.mean()), color=MUTED, linestyle=":", label="before training")
    ax.set_yticks(range(len(groups)), groups)
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(LABELS.get(measure, str(measure)))
    examples = sorted({int(n) for n in rows["examples"].dropna()})
    note = f"n = {counted([rows['run'].nunique()], 'run')}, {counted(examples, 'example')}"
    caption = (
        "The base before, and with each adapter after training. Points are means over runs, bars smallest to largest."
    )
    return finish(figure, "forgetting", "What the base forgets", note, caption, legend=[ax])


def _draw_row(ax: Axes, y: int, rows: pd.DataFrame) -> None:
    after = rows["after"].astype(float)
    mean = after.mean()
    spread = [[mean - after.min()], [after.max() - mean]]
    ax.errorbar(mean, y, xerr=spread, marker="o", color=PALETTE[0], linestyle="none")
