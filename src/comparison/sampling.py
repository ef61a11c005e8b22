"""Test-sampling intervals: how far a score would move had other test examples been drawn, with the seeds held."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from src.comparison.cells import Cell
from src.records.examples import Examples
from src.records.record import RunRecord
from src.statistics import Interval, Statistic, bootstrap_jointly
from src.statistics.bootstrap import Array
from src.statistics.weighted import Jointly, exp_of, f1, macro_f1, matthews, mean_of, pearson, ratio, spearman

ExamplesOf = Callable[[RunRecord], Examples | None]
BOOTSTRAP_SEED = 0
# Runs whose examples are held at a time, and examples of all of them, 64 MB.
MOST_STATISTICS, MOST_ELEMENTS = 1000, 1 << 23
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
    result: list[tuple[Interval | None, int | None]] = [(None, None)] * len(cells)
    for num_examples, members in _batches(cells, metric, examples_of):
        intervals = _intervals([statistics for _, statistics in members], num_examples, level)
        for (index, _), interval in zip(members, intervals, strict=True):
            result[index] = interval, num_examples
    return result


def _batches(
    cells: Sequence[Cell], metric: str, examples_of: ExamplesOf
) -> Iterator[tuple[int, list[tuple[int, list[Statistic]]]]]:
    """Cells with equally many examples, as many at a time as memory is meant to hold; all batches get equal draws."""
    waiting: dict[int, list[tuple[int, list[Statistic]]]] = defaultdict(list)
    for index, cell in enumerate(cells):
        found = cell_statistics(cell, metric, examples_of)
        if found is None:
            continue
        statistics, num_examples = found
        own = waiting[num_examples]
        own.append((index, statistics))
        held = sum(len(each) for _, each in own)
        if held >= MOST_STATISTICS or held * num_examples > MOST_ELEMENTS:
            yield num_examples, waiting.pop(num_examples)
    yield from waiting.items()


def _intervals(cells: Sequence[Sequence[Statistic]], num_examples: int, level: float) -> list[Interval | None]:
    """Of the mean over seeds of each cell."""
    joint = Jointly([statistic for statistics in cells for statistic in statistics])

    def means(weights: Array) -> list[Array]:
        by_seed = iter(joint(weights))
        return [np.mean([next(by_seed) for _ in statistics], axis=0) for statistics in cells]

    return bootstrap_jointly(means, len(cells), num_examples, level=level, seed=BOOTSTRAP_SEED)


def cell_statistics(cell: Cell, metric: str, examples_of: ExamplesOf) -> tuple[list[Statistic], int] | None:
    """The score of each seed as a function of example weights, and the number of examples."""
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
    return (statistics, sizes.pop()) if len(sizes) == 1 else None


def statistic_of(metric: str, examples: Examples) -> Statistic | None:
    """The metric as a function of example weights; None where it does not follow from what was kept."""
    columns = examples.columns
    if "tokens" in columns:
        loss: Statistic = ratio(columns["loss"], columns["tokens"])
        return {"loss": loss, "perplexity": exp_of(loss)}.get(metric)
    of = SCORES.get(metric)
    return of(columns["prediction"], columns["target"]) if of else None


def _agrees(statistic: Statistic, num_examples: int, stated: float) -> bool:
    score = float(statistic(np.ones((1, num_examples)))[0])
    return math.isclose(score, stated, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
