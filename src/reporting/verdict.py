"""The two sentences that answer a study: which matrices, and what rank suffices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from src.comparison.cells import Cell
from src.comparison.choose import smallest_within
from src.comparison.findings import Contender, Difference, Estimate, Findings
from src.comparison.method import full_family_of
from src.records.text import show
from src.statistics import Interval

MOST_LISTED = 12
FEWEST = 2


def which_matrices(findings: Findings, best: Contender) -> str:
    """The best configuration with its intervals, what the data do not tell apart from it, and what is worse."""
    clauses = [f"Best by validation {findings.table.metric}: {describe(findings, best)}", *_ranking(findings)]
    return "; ".join(clauses) + "."


def what_rank(findings: Findings, best: Contender) -> list[str]:
    """The smallest rank that suffices; with one seed the smallest near the best, which no test stands behind."""
    cells = [contender.choice.cell for contender in findings.contenders if contender.choice.cell.has_lora]
    if len(cells) < FEWEST or _differ_in_more(cells):
        return []
    if one_budget_for_all(findings):
        follows = "method and target set" if findings.table.several_methods else "the target set"
        return [f"One budget for all: the rank follows from {follows}, so nothing is said on what rank suffices."]
    if best.choice.cell.has_lora and all(cell.size >= best.choice.cell.size for cell in cells):
        return ["No smaller rank was tried."]
    if not any(contender.difference for contender in findings.contenders):
        return [_nearest(findings, best.choice.cell)] if best.choice.cell.has_lora else []
    return [_sufficient(findings)] if findings.sufficient else []


def _differ_in_more(cells: Sequence[Cell]) -> bool:
    """Whether more than matrices and rank sets them apart, so that a smaller one is not simply one of smaller rank."""
    return len({cell.method for cell in cells}) > 1 or any(cell.rank is None for cell in cells)


def one_budget_for_all(findings: Findings) -> bool:
    """Whether whatever has ranks got them from one budget: no study of rank, but of methods or matrices."""
    cells = [contender.choice.cell for contender in findings.contenders]
    budgets = {cell.spec.lora.budget for cell in cells if cell.has_lora}
    return len(budgets) == 1 and None not in budgets


def _sufficient(findings: Findings) -> str:
    shown = [contender for contender in findings.sufficient.values() if contender.choice.cell.has_lora]
    margin, by_set = f"{findings.margin:g}", _by_target_set(findings)
    if not shown:
        return f"No rank is shown to be less than {margin} worse than it on test (Holm's correction)."
    smallest = min(shown, key=lambda contender: contender.choice.cell.size)
    difference = smallest.difference
    if difference is None:
        return f"No smaller rank is shown to be less than {margin} worse than it on test (Holm's correction){by_set}."
    return (
        f"Smallest rank that suffices: {findings.table.label(smallest.choice.cell)}, {parameters(smallest)}: "
        f"on test less than {margin} worse than the best, difference {_signed(_in_unit(findings, difference.mean))} "
        f"({difference.pairs} seeds, corrected p of a greater loss {_p_value(difference.p_inferior_holm)}){by_set}."
    )


def describe(findings: Findings, contender: Contender) -> str:
    """Label, scores with intervals, and size."""
    cell = contender.choice.cell
    partly = "" if cell.whole else f", from {cell.seeds} seeds"
    return f"{findings.table.label(cell)}: {scores(findings, contender)}, {parameters(contender)}{partly}"


def parameters(contender: Contender) -> str:
    """``73,728 adapter parameters``; ``trained parameters`` where nothing was added to the model."""
    cell = contender.choice.cell
    added = cell.has_lora or cell.spec.method.name in ("adapter_h", "adapter_l")
    return f"{show(cell.adapter_parameters, 'count')} {'adapter' if added else 'trained'} parameters"


def scores(findings: Findings, contender: Contender) -> str:
    """``validation 0.9120, test 0.8970 (95 % interval 0.8900 to 0.9040 over 3 seeds)``."""
    validation = f"validation {show(contender.validation.mean, 'score')}"
    if contender.test is None:
        return f"{validation}, test missing"
    return f"{validation}, test {show(contender.test.mean, 'score')}{_intervals(findings, contender.test)}"


def distance_from_best(findings: Findings, difference: Difference) -> str:
    """``difference -0.0210 (95 % interval -0.0300 to -0.0120 by itself, 3 seeds, corrected p = 0.012)``."""
    interval = ""
    if difference.interval:
        ends = sorted(_in_unit(findings, end) for end in (difference.interval.low, difference.interval.high))
        interval = f"{_percent(findings)} interval {_span(Interval(*ends))} by itself, "
    mean = _signed(_in_unit(findings, difference.mean))
    return f"difference {mean} ({interval}{difference.pairs} seeds, corrected p {_p_value(difference.p_holm)})"


def _intervals(findings: Findings, estimate: Estimate) -> str:
    parts = []
    if estimate.over_seeds:
        parts.append(f"{_span(estimate.over_seeds)} over {estimate.seeds} seeds")
    if estimate.over_examples:
        parts.append(f"{_span(estimate.over_examples)} over {show(estimate.examples, 'count')} test examples")
    return f" ({_percent(findings)} interval {', '.join(parts)})" if parts else ""


def _in_unit(findings: Findings, difference: float) -> float:
    """A difference as it is in the metric; within Findings positive is better whatever the metric's direction."""
    return -difference if findings.table.lower_is_better else difference


def _ranking(findings: Findings) -> list[str]:
    """Clauses on the others: tied with the best, worse, or not compared."""
    others = findings.contenders[1:]
    compared = [contender for contender in others if contender.difference]
    tied = [contender for contender in compared if contender.place == 1]
    worse = [contender for contender in compared if contender.place != 1]
    clauses = []
    if tied and not worse:
        number = len(tied)
        all_of_them = f"none of the other {number} configurations" if number > 1 else tied[0].label
        verb = "can be told apart from it" if number > 1 else "cannot be told apart from it"
        clauses.append(f"{all_of_them} {verb} on these data ({_range(findings, tied)})")
    elif tied:
        apart = _range(findings, tied)
        clauses.append(f"{_listed(findings, tied)} cannot be told apart from it on these data ({apart})")
    if worse:
        closest = worse[0]
        assert closest.difference is not None
        which = "" if len(worse) == 1 else f"the best of these, {closest.label}, "
        told = distance_from_best(findings, closest.difference)
        clauses.append(f"shown to be worse: {_listed(findings, worse)}, {which}with {told}")
    if compared and len(compared) < len(others):
        alone = [contender for contender in others if not contender.difference]
        clauses.append(f"not compared, for want of two shared seeds: {_listed(findings, alone)}")
    return clauses


def _range(findings: Findings, contenders: Sequence[Contender]) -> str:
    means = [_in_unit(findings, contender.difference.mean) for contender in contenders if contender.difference]
    low, high = _signed(min(means)), _signed(max(means))
    return f"differences on test {low} to {high}" if low != high else f"difference on test {low}"


def _listed(findings: Findings, contenders: Sequence[Contender]) -> str:
    """``qkvo (r=1, 8) and q (r=64)``; by label where more than targets and rank varies."""
    cells = [contender.choice.cell for contender in contenders]
    if findings.table.varying or any(cell.rank is None or cell.method_size is not None for cell in cells):
        names = [contender.label for contender in contenders]
    else:
        ranks: dict[str, list[int]] = defaultdict(list)
        for cell in cells:
            ranks[_family(findings, cell)].append(cell.rank or 0)
        names = [f"{family} (r={', '.join(map(str, sorted(values)))})" for family, values in ranks.items()]
    names = first_few(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def first_few(names: Sequence[str]) -> list[str]:
    """At most MOST_LISTED of them, and how many more there are."""
    if len(names) <= MOST_LISTED:
        return list(names)
    return [*names[:MOST_LISTED], f"{len(names) - MOST_LISTED} more"]


def _by_target_set(findings: Findings) -> str:
    """What suffices in each target set, where there are several."""
    cells = [contender.choice.cell for contender in findings.contenders]
    families = {cell.family: _family(findings, cell) for cell in cells if cell.has_lora}
    if len(families) == 1:
        return ""
    if len(families) > MOST_LISTED:
        families = {family: families[family] for family in sorted(families, key=lambda f: f not in findings.sufficient)}
    names = []
    for family, written in families.items():
        shown = findings.sufficient.get(family)
        itself = " (the best itself)" if shown and not shown.difference else ""
        names.append(f"{shown.label}{itself}" if shown else f"{written} none shown")
    return f"; by {'method and ' if findings.table.several_methods else ''}target set: {', '.join(first_few(names))}"


def _family(findings: Findings, cell: Cell) -> str:
    return full_family_of(cell.spec) if findings.table.several_methods else cell.family


def _nearest(findings: Findings, best: Cell) -> str:
    """By validation means alone."""
    choices = [c.choice for c in findings.contenders if c.choice.cell.has_lora or c.choice.cell is best]
    smallest = smallest_within(findings.table, choices, best, findings.margin)
    if smallest is best:
        return f"No smaller rank comes within {findings.margin:g} of it."
    (found,) = (contender for contender in findings.contenders if contender.choice.cell is smallest)
    return f"Smallest rank within {findings.margin:g} of it: {describe(findings, found)}."


def _percent(findings: Findings) -> str:
    return f"{100 * (1 - findings.level):g} %"


def _span(interval: Interval) -> str:
    return f"{show(interval.low, 'score')} to {show(interval.high, 'score')}"


def _signed(value: float) -> str:
    text = show(value, "score")
    return text if text.startswith("-") else f"+{text}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"
