"""Methods beside plain LoRA: at one budget, and random subspaces beside the rank curve."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from src.comparison.findings import Contender, Estimate, Findings
from src.comparison.groups import by_rank, plain_lora
from src.comparison.intrinsic import IntrinsicDimension, intrinsic_dimensions
from src.comparison.methods import methods_at_one_budget
from src.plots.families import drawn_families, family_looks, others_words
from src.plots.measure import axis_label, error_bar, measure, sample_size, spelled_name
from src.plots.scores import bars, parameter_axis, ring
from src.plots.style import INK, MUTED, PALETTE, Drawing, finish, new_figure

FULL_LINE, SHARE_LINE, HEAD_LINE = "full fine-tuning", "90 % of it", "head alone"


def methods_at_budget(findings: Findings) -> Drawing | None:
    """Methods of one budget, best first, then the references; None where no two methods share one."""
    compared = methods_at_one_budget(findings)
    if compared is None:
        return None
    measured = measure(findings)
    members = [method.contender for method in compared.members if method.contender in measured.contenders]
    members.sort(key=lambda c: measured.estimate(c).mean, reverse=not findings.table.lower_is_better)
    references = [r.contender for r in compared.references if r.contender in measured.contenders]
    rows = [*members, *references]
    figure, (ax,) = new_figure(height=0.8 + 0.3 * len(rows))
    looks = family_looks(findings.table)
    for y, contender in enumerate(rows):
        look, estimate = looks[contender.choice.cell.family], measured.estimate(contender)
        ax.errorbar(estimate.mean, y, xerr=error_bar(estimate), **look.options(linestyle="none"))
    if compared.lora is not None and compared.lora.contender in rows:
        ax.axvline(
            measured.estimate(compared.lora.contender).mean, color=INK, linewidth=0.8, linestyle="--", label="LoRA"
        )
    if measured.baseline is not None:
        ax.axvline(measured.baseline.mean, color=MUTED, linestyle=":", label=HEAD_LINE)
    names = [spelled_name(c.choice.cell) + (" (reference)" if c in references else "") for c in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(measured.axis)
    ax.grid(visible=False, axis="y")
    title = f"Methods: {'at most ' * compared.given}{compared.budget:,d} trained parameters"
    caption = (
        "The same number of trained parameters, spent on each method at the learning rate that validation chose; "
        f"references have whatever size they have. {measured.interval_words}"
    )
    return finish(figure, "methods", title, measured.note(), caption, legend=[ax])


def intrinsic_dimension(findings: Findings) -> Drawing | None:
    """Random subspaces by d and LoRA by rank against trained parameters; None without random subspaces."""
    dimensions = intrinsic_dimensions(findings)
    if not any(found.subspaces for found in dimensions):
        return None
    split = "test" if all(found.split == "test" for found in dimensions) else "validation"
    figure, (ax,) = new_figure(height=3.4)
    drawn = [contender for found in dimensions for contender in _draw_subspaces(ax, findings, found, split)]
    drawn += _draw_ranks(ax, findings, split)
    _draw_lines(ax, dimensions[0])
    parameter_axis(ax, [contender.choice.cell.adapter_parameters or 1 for contender in drawn], "trained parameters")
    ax.set_ylabel(axis_label(findings.table, split))
    note = f"{findings.table.title}; n = {sample_size(drawn, split)}"
    title = f"{split.capitalize()} {findings.table.metric} of random subspaces, and of LoRA by rank"
    caption = f"{_caption(dimensions)}{others_words(findings.table, grey=False)}"
    return finish(figure, "intrinsic-dimension", title, note, caption, legend=[ax])


def _draw_subspaces(ax: Axes, findings: Findings, found: IntrinsicDimension, split: str) -> list[Contender]:
    contenders = [subspace.contender for subspace in found.subspaces]
    family = contenders[0].choice.cell.family if contenders else found.method
    look = family_looks(findings.table)[family]
    points = [(subspace.d, _estimate(subspace.contender, split)) for subspace in found.subspaces]
    known = [(d, estimate) for d, estimate in points if estimate is not None]
    bars(ax, [d for d, _ in known], [estimate for _, estimate in known], label=found.method, **look.options())
    ring(ax, [(d, estimate.mean) for d, estimate in known if d == found.d90])
    return contenders


def _draw_ranks(ax: Axes, findings: Findings, split: str) -> list[Contender]:
    """A line for each target set of plain LoRA, the ranks beside its points."""
    names, looks = drawn_families(findings.table), family_looks(findings.table)
    lines, drawn = by_rank(plain_lora(findings.contenders)), list[Contender]()
    for family in [family for family in lines if family in names]:
        line = lines[family]
        points = [
            (rank, contender, estimate, number)
            for rank, contender in sorted(line.items())
            if (estimate := _estimate(contender, split)) and (number := contender.choice.cell.adapter_parameters)
        ]
        if points:
            x, estimates = [number for *_, number in points], [estimate for _, _, estimate, _ in points]
            bars(ax, x, estimates, label=names[family], **looks[family].options())
            _annotate(ax, [(f"r={rank}", number, estimate.mean) for rank, _, estimate, number in points])
            drawn += [contender for _, contender, _, _ in points]
    return drawn


def _annotate(ax: Axes, places: Sequence[tuple[str, int, float]]) -> None:
    for text, x, y in places:
        ax.annotate(text, (x, y), xytext=(4, -11), textcoords="offset points", fontsize=8.5)


def _draw_lines(ax: Axes, found: IntrinsicDimension) -> None:
    lines = (
        (found.full_score, FULL_LINE, {"color": INK, "linestyle": "-", "linewidth": 1.0}),
        (found.threshold, SHARE_LINE, {"color": PALETTE[1], "linestyle": "--", "linewidth": 1.2}),
        (found.head_score, HEAD_LINE, {"color": MUTED, "linestyle": ":", "linewidth": 1.4}),
    )
    for score, label, options in lines:
        if score is not None:
            ax.axhline(score, label=label, zorder=1, **options)  # type: ignore[arg-type]


def _estimate(contender: Contender, split: str) -> Estimate | None:
    return contender.test if split == "test" else contender.validation


def _caption(dimensions: Sequence[IntrinsicDimension]) -> str:
    ringed = " A ring marks d90." if any(found.d90 is not None for found in dimensions) else ""
    return (
        "Each point is at the learning rate that validation chose; for random subspaces the number of trained "
        f"parameters is d.{ringed} d90 is the smallest d whose mean score reaches 90 % of full fine-tuning's "
        "(Aghajanyan et al. 2020). Bars are 95 % intervals, where there are any."
    )
