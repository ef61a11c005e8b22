"""Singular values: of dW, of W0, how many count, and what is left of the base when W0 itself is cut to rank k."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from src.plots.layers import RunNames, frame, groups_in_order, letters_in_order, sample_note, with_groups
from src.plots.measure import counted
from src.plots.scores import rank_axis
from src.plots.style import MUTED, Drawing, finish, log_y, looks, new_figure, new_panels
from src.records import AnalysisTable

RATIO = "singular value / largest (ratio)"


def spectrum(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """Singular values of dW relative to the largest, a panel for each letter."""
    rows = frame(table).dropna(subset=["singular_value"])
    if rows.empty:
        return None
    rows = with_groups(rows, names)
    largest = rows.groupby(["run", "letter", "layer"])["singular_value"].transform("max")
    rows = rows.assign(ratio=rows["singular_value"] / largest)[largest > 0]
    letters, styles = letters_in_order(rows), looks(groups_in_order(rows))
    figure, axes = new_panels(len(letters), sharey=True)
    for ax, letter in zip(axes, letters, strict=True):
        for group, look in styles.items():
            own = rows[(rows["group"] == group) & (rows["letter"] == letter)].groupby("index")["ratio"].mean()
            if not own.empty:
                options = look.options(markersize=3.5 if len(own) > 1 else 6, markevery=max(1, len(own) // 8))
                ax.plot(own.index, own, label=str(group), **options)
        ax.set_title(f"W_{letter}", loc="left")
        ax.set_xlabel("index of singular value")
        log_y(ax, float(rows["ratio"].min()), 1.0)
        rank_axis_of_indices(ax, int(rows["index"].max()))
    figure.supylabel(RATIO, fontsize=9.5)
    caption = "Means over layers and runs. A steep fall means that few directions carry the update."
    return finish(figure, "spectrum", "Spectrum of dW", sample_note(rows), caption, legend=axes)


def base_spectrum(table: AnalysisTable, _: RunNames) -> Drawing | None:
    """Singular values of W0 relative to the largest, a line for each letter."""
    rows = frame(table).dropna(subset=["singular_value"])
    if rows.empty:
        return None
    base = rows["base"].iloc[0] if "base" in rows else "the frozen base"
    rows = rows[rows["base"] == base] if "base" in rows else rows
    largest = rows.groupby(["letter", "layer"])["singular_value"].transform("max")
    rows = rows.assign(ratio=rows["singular_value"] / largest)[largest > 0]
    figure, (ax,) = new_figure()
    for letter, look in looks(letters_in_order(rows)).items():
        own = rows[rows["letter"] == letter].groupby("index")["ratio"].agg(["mean", "min", "max"])
        ax.fill_between(own.index, own["min"], own["max"], color=look.color, alpha=0.12, linewidth=0)
        ax.plot(own.index, own["mean"], label=f"W_{letter}", **look.options(markevery=max(1, len(own) // 8)))
    log_y(ax, float(rows["ratio"].min()), 1.0)
    ax.set_xlabel("index of singular value")
    ax.set_ylabel(RATIO)
    caption = (
        "Means over layers; bands reach from the smallest to the largest layer. A flat line is a full-rank matrix."
    )
    note = f"n = {counted([rows['layer'].nunique()], 'layer')} of {base}"
    return finish(figure, "base-spectrum", "Spectrum of the frozen weights W0", note, caption, legend=[ax])


def effective_rank(table: AnalysisTable, names: RunNames) -> Drawing | None:
    """Stable and effective rank of dW against the rank that it was given."""
    rows = frame(table).dropna(subset=["rank", "stable_rank", "effective_rank"])
    if rows.empty:
        return None
    rows = rows.astype({"rank": int})
    ranks = sorted(rows["rank"].unique())
    figure, axes = new_figure(1, 2, 2.5, sharey=True)
    titles = {"effective_rank": "effective rank", "stable_rank": "stable rank"}
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for letter, look in looks(letters_in_order(rows)).items():
            own = rows[rows["letter"] == letter].groupby("rank")[column].mean()
            ax.plot(own.index, own, label=f"W_{letter}", **look.options())
        ax.plot(ranks, ranks, color=MUTED, linestyle=":", label="rank r itself")
        ax.set_title(title, loc="left")
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        rank_axis(ax, ranks)
    axes[0].set_ylabel("rank of dW (number)")
    caption = (
        "Effective rank is the exponential of the entropy of the normalised singular values; stable rank is "
        "||dW||_F^2 / ||dW||_2^2. Means over layers and runs."
    )
    return finish(figure, "size", "How much of the given rank dW uses", sample_note(rows), caption, legend=axes)


def truncation(table: AnalysisTable, _: RunNames) -> Drawing | None:
    """Score with the base's own matrices of one letter cut to rank k."""
    rows = frame(table).dropna(subset=["score"])
    if rows.empty:
        return None
    split, metric = rows["split"].iloc[0], rows["metric"].iloc[0]
    rows = rows[(rows["split"] == split) & (rows["metric"] == metric)]
    figure, (ax,) = new_figure()
    for letter, look in looks(letters_in_order(rows)).items():
        own = rows[rows["letter"] == letter].groupby("k")["score"].mean().sort_index()
        ax.plot(own.index, own, label=f"W_{letter}", **look.options())
    rank_axis(ax, sorted(int(k) for k in rows["k"].unique()))
    ax.set_xlabel("rank k that is kept of W0")
    ax.set_ylabel(f"{split} {metric}")
    runs = counted([rows["run"].nunique()], "run")
    caption = (
        "Score when the frozen matrices of one letter are cut to their top k singular values in all layers at once, "
        "with the run's adapter and head kept. Where it stays level, the base itself is of low rank."
    )
    return finish(figure, "truncation", "What is left when W0 is cut to rank k", f"n = {runs}", caption, legend=[ax])


def rank_axis_of_indices(ax: Axes, last: int) -> None:
    """1, 2, 4 ... up to the last index."""
    rank_axis(ax, [2**power for power in range(last.bit_length())])
    ax.set_xlabel("index of singular value")
