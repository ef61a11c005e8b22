"""The closing sentences: which cell is best, the smallest rank that comes close, and what weakens both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from src.comparison.cells import Cell
from src.comparison.choose import Choice, behind, best_of, choose, smallest_within
from src.comparison.table import StudyTable, Table
from src.records.text import show


def answer(study: StudyTable, within: float) -> list[str]:
    """Sentences for all tables, opened by the table's title where there are several.

    Args:
        within: margin of "smallest rank within ... of it", in the metric's own unit.
    """
    match study.tables:
        case ():
            sentences = ["No run has ended yet: there is nothing to compare."]
        case (table,):
            sentences = answer_table(table, within)
        case tables:
            sentences = [f"{table.title}: {' '.join(answer_table(table, within))}" for table in tables]
    return [*sentences, *_unfinished(study)]


def answer_table(table: Table, within: float) -> list[str]:
    """One finding in each sentence; never a claim that the records do not carry."""
    choices = choose(table)
    heads = [cell for cell in table.ranked if not cell.adapted]
    if not choices:
        return [_nothing_to_rank(table), *_head_alone(table, heads, None)]
    best = choices[0].cell
    return [
        f"Best by validation {table.metric}: {_describe(table, best)}.",
        *_smallest(table, choices, best, within),
        *_head_alone(table, heads, best),
        *_learning_rates(choices),
        *_passed_over(table, best),
        *_seeds(choices),
    ]


def _unfinished(study: StudyTable) -> list[str]:
    match len(study.unfinished):
        case 0:
            return []
        case 1:
            return ["1 run has no record so far: the answer may change."]
        case number:
            return [f"{number} runs have no record so far: the answer may change."]


def _nothing_to_rank(table: Table) -> str:
    counts = Counter(problem.status for problem in table.problems)
    ended = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return f"No cell with adapters has a validation score{f' ({ended})' if ended else ''}: there is nothing to rank."


def _smallest(table: Table, choices: Sequence[Choice], best: Cell, within: float) -> list[str]:
    if len(choices) == 1:
        return []
    smallest = smallest_within(table, choices, best, within)
    if smallest is best:
        return [f"No smaller rank comes within {within:g} of it."]
    return [f"Smallest rank within {within:g} of it: {_describe(table, smallest)}."]


def _describe(table: Table, cell: Cell) -> str:
    parameters = show(cell.adapter_parameters, "count")
    partly = "" if cell.whole else f", from {cell.seeds} seeds"
    return f"{table.label(cell)}: {_scores(cell)}, {parameters} adapter parameters{partly}"


def _scores(cell: Cell) -> str:
    test = "test missing" if cell.test is None else f"test {show(cell.test, 'score')}"
    return f"validation {show(cell.validation, 'score')}, {test}"


def _head_alone(table: Table, heads: Sequence[Cell], best: Cell | None) -> list[str]:
    if not heads:
        return []
    head = best_of(heads)
    beaten = best is None or behind(table, head, best) > 0
    return [f"Head alone (targets none): {_scores(head)}{'' if beaten else '; no adapter does better'}."]


def _learning_rates(choices: Sequence[Choice]) -> list[str]:
    rates = frozenset[float]().union(*(choice.tried for choice in choices))
    if len(rates) == 1 and len(choices) > 1:
        return [f"One learning rate for all cells ({min(rates):g}): ranks may differ by how well it suits them."]
    sentences = []
    for edge in ("highest", "lowest"):
        names = [f"{c.cell.spec.lora.targets} r={c.cell.rank}" for c in choices if c.at_edge == edge]
        if names:
            listed = ", ".join(dict.fromkeys(names))
            sentences.append(f"The best learning rate is the {edge} of those tried for {listed}: widen the grid.")
    return sentences


def _passed_over(table: Table, best: Cell) -> list[str]:
    return [
        f"{table.label(cell)} has validation {show(cell.validation, 'score')} on {cell.seeds} seeds and was passed "
        "over, because not all of its seeds completed."
        for cell in table.ranked
        if cell.adapted and not cell.whole and best.whole and behind(table, cell, best) < 0
    ]


def _seeds(choices: Sequence[Choice]) -> list[str]:
    seeds = {choice.cell.seed_values for choice in choices}
    numbers = sorted({len(values) for values in seeds})
    if len(seeds) > 1:
        return ["Cells do not all share the same seeds: their differences are not paired."]
    if numbers == [1]:
        return ["One seed: no interval over seeds."]
    return [f"Scores are means over {numbers[0]} seeds, without an interval."]
