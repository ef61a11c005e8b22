"""Test-sampling intervals: how far a score would move had other test examples been drawn, with the seeds held."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from src.comparison.cells import Cell
from src.records.examples import Examples
from src.records.record import RunRecord
from src.statistics import Interval, Statistic, bootstrap_intervals
from src.statistics.bootstrap import Array
from src.statistics.weighted import exp_of, f1, macro_f1, matthews, mean_of, pearson, ratio, spearman

ExamplesOf = Callable[[RunRecord], Examples | None]
BOOTSTRAP_SEED = 0
SCORES: Mapping[str, Callable[[Array, Array], Statistic]] = {
    "accuracy": lambda prediction, target: mean_of((prediction == target).astype(np.float64)),
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "mse": lambda prediction, target: mean_of((prediction - target) ** 2),
    "pearson": pearson,
    "spearman": spearman,
}
# A score summed by another program, in float32 and another order, is still the same score.
TOLERANCE = 1e-4


def no_examples(record: RunRecord) -> None:
    """An `ExamplesOf` for where nothing but the records is at hand."""


def sampling_intervals(
    cells: Sequence[Cell], metric: str, examples_of: ExamplesOf, level: float
) -> list[tuple[Interval | None, int | None]]:
    """For each cell the interval of its mean test score over seeds, and the number of test examples.

    Examples are resampled jointly: every seed, and every cell, sees the same ones each time. None, None where a seed
    lacks its examples or they do not give the score that its record states.
    """
    scores = [cell_score(cell, metric, examples_of) for cell in cells]
    members: dict[int, list[int]] = defaultdict(list)
    for index, score in enumerate(scores):
        if score is not None:
            members[score[1]].append(index)
    result: list[tuple[Interval | None, int | None]] = [(None, None)] * len(cells)
    for num_examples, indices in members.items():
        statistics = [score[0] for index in indices if (score := scores[index]) is not None]
        intervals = bootstrap_intervals(statistics, num_examples, level=level, seed=BOOTSTRAP_SEED)
        for index, interval in zip(indices, intervals, strict=True):
            result[index] = interval, num_examples
    return result


def cell_score(cell: Cell, metric: str, examples_of: ExamplesOf) -> tuple[Statistic, int] | None:
    """Mean over seeds as a function of example weights, and the number of examples."""
    statistics: list[Statistic] = []
    sizes: set[int] = set()
    for record in cell.scored:
        examples = examples_of(record)
        statistic = None if examples is None else statistic_of(metric, examples)
        stated = (record.metrics.test or {}).get(metric)
        if examples is None or statistic is None or stated is None or not _agrees(statistic, len(examples), stated):
            return None
        statistics.append(statistic)
        sizes.add(len(examples))
    if len(sizes) != 1:
        return None
    return lambda weights: np.mean([statistic(weights) for statistic in statistics], axis=0), sizes.pop()


def statistic_of(metric: str, examples: Examples) -> Statistic | None:
    """The metric as a function of example weights; None where it does not follow from what was kept."""
    columns = examples.columns
    if "tokens" in columns:
        loss = ratio(columns["loss"], columns["tokens"])
        return {"loss": loss, "perplexity": exp_of(loss)}.get(metric)
    of = SCORES.get(metric)
    return of(columns["prediction"], columns["target"]) if of else None


def _agrees(statistic: Statistic, num_examples: int, stated: float) -> bool:
    score = float(statistic(np.ones((1, num_examples)))[0])
    return math.isclose(score, stated, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
