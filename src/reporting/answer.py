"""The closing sentences: which matrices are best, what rank suffices, and what weakens both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from src.comparison.choose import behind
from src.comparison.findings import Contender, Findings
from src.comparison.table import StudyTable, Table
from src.records.text import show
from src.reporting.methods import intrinsic_dimension, one_budget
from src.reporting.verdict import distance_from_best, first_few, one_budget_for_all, scores, what_rank, which_matrices

MOST_PASSED_OVER = 5


def answer(findings: Sequence[Findings], study: StudyTable) -> list[str]:
    """Sentences for all tables, opened by the table's title where there are several; the answer itself comes first.

    Args:
        findings: of the study's tables.
        study: for what has not ended.
    """
    match findings:
        case ():
            sentences = ["No run has ended yet: there is nothing to compare."]
        case (only,):
            sentences = answer_table(only)
        case _:
            sentences = [f"{each.table.title}: {' '.join(answer_table(each))}" for each in findings]
    return [*sentences, *unfinished(study)]


def answer_table(findings: Findings) -> list[str]:
    """One finding in each sentence; never a claim that the records do not carry."""
    best = findings.best
    if best is None:
        return [_nothing_to_rank(findings.table), *_head_alone(findings)]
    ranks, methods = what_rank(findings, best), one_budget(findings)
    return [
        which_matrices(findings, best),
        *intrinsic_dimension(findings),
        *([*methods, *ranks] if one_budget_for_all(findings) else [*ranks, *methods]),
        *_better_on_test(findings),
        *_head_alone(findings),
        *_learning_rates(findings),
        *_passed_over(findings, best),
        *_seeds(findings),
    ]


def unfinished(study: StudyTable) -> list[str]:
    """What is still to come: runs without a record, and interrupted ones."""
    interrupted = sum(problem.status == "interrupted" for table in study.tables for problem in table.problems)
    counts = {"no record so far": len(study.unfinished), "been interrupted": interrupted}
    told = [f"{number} {'run has' if number == 1 else 'runs have'} {what}" for what, number in counts.items() if number]
    return [f"{' and '.join(told)}: the answer may change."] if told else []


def _nothing_to_rank(table: Table) -> str:
    counts = Counter(problem.status for problem in table.problems)
    ended = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    cells = "cell that trains more than the head" if table.several_methods else "cell with adapters"
    return f"No {cells} has a validation score{f' ({ended})' if ended else ''}: there is nothing to rank."


def _better_on_test(findings: Findings) -> list[str]:
    """The best is chosen on validation; where test contradicts the choice, the reader has to know."""
    return [
        f"On test {contender.label} is better than it: {distance_from_best(findings, contender.difference)}."
        for contender in findings.contenders
        if contender.difference and contender.difference.p_holm < findings.level and contender.difference.mean > 0
    ]


def _head_alone(findings: Findings) -> list[str]:
    head, best = findings.baseline, findings.best
    if head is None:
        return []
    told = f"Head alone (targets none): {scores(findings, head)}"
    beaten = best is None or behind(findings.table, head.choice.cell, best.choice.cell) > 0
    against = f"; on test against the best {distance_from_best(findings, head.difference)}" if head.difference else ""
    nothing = "nothing else" if findings.table.several_methods else "no adapter"
    return [f"{told}{'' if beaten else f'; {nothing} does better on validation'}{against}."]


def _learning_rates(findings: Findings) -> list[str]:
    choices = [contender.choice for contender in findings.contenders]
    rates = frozenset[float]().union(*(choice.tried for choice in choices))
    if len(rates) == 1 and len(choices) > 1:
        compared = "methods" if findings.table.several_methods else "ranks"
        return [f"One learning rate for all cells ({min(rates):g}): {compared} may differ by how well it suits them."]
    sentences = []
    for edge in ("highest", "lowest"):
        names = [findings.table.name(c.cell) for c in choices if c.at_edge == edge]
        if names:
            listed = ", ".join(first_few(list(dict.fromkeys(names))))
            sentences.append(f"The best learning rate is the {edge} of those tried for {listed}: widen the grid.")
    return sentences


def _passed_over(findings: Findings, best: Contender) -> list[str]:
    table, cell_of_best = findings.table, best.choice.cell
    better = [
        cell
        for cell in table.ranked
        if cell.adapted and not cell.whole and cell_of_best.whole and behind(table, cell, cell_of_best) < 0
    ]
    sentences = [
        f"{table.label(cell)} has validation {show(cell.validation, 'score')} on {cell.seeds} seeds and was passed "
        "over, because not all of its seeds completed."
        for cell in better[:MOST_PASSED_OVER]
    ]
    more = len(better) - len(sentences)
    return [*sentences, *([f"{more} more were passed over for the same reason."] if more > 0 else [])]


def _seeds(findings: Findings) -> list[str]:
    seeds = {contender.choice.cell.seed_values for contender in findings.contenders}
    numbers = sorted({len(values) for values in seeds})
    if numbers == [1]:
        tested = ", and nothing is tested" if len(findings.contenders) > 1 else ""
        apart = " Cells do not all share the same one." if len(seeds) > 1 else ""
        return [f"One seed: no interval over seeds{tested}.{apart}"]
    if len(seeds) > 1:
        return ["Cells do not all share the same seeds: a difference rests on those that both cells have."]
    if len(findings.contenders) == 1:
        return [f"Scores are means over {numbers[0]} seeds."]
    return [
        f"Scores are means over {numbers[0]} seeds. Learning rates and the best cell were chosen on validation; "
        "differences on test are paired by seed, with t tests (the larger of a pair's own and the pooled variance) and "
        "Holm's correction: over all pairs of configurations for telling them apart, over all compared with the best "
        "for what suffices."
    ]
