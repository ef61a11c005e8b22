"""Successive halving over the cells of a study (Jamieson and Talwalkar 2016, arXiv 1502.07943).

After 1 / eta^k of the steps the best 1 / eta of the competitors go on; the others are ended with the reason in their
records. A rung stands only where a validation takes place anyway, and cells pause there at a checkpoint, so a cell that
goes on ends where it would have ended without halving, and the history of one that is ended is a prefix of what it
would have been. Verdicts follow from records alone: the same command after a kill comes to the same ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.comparison.method import adapts
from src.errors import ConfigError
from src.experiment.resolve import Cell
from src.experiment.resources import Resources
from src.records import Elimination, RunRecord
from src.spec import LOWER_IS_BETTER, HalvingSpec
from src.spec.identity import canonical_json
from src.training.data_order import steps_per_epoch, total_steps

Records = Mapping[str, RunRecord | None]


@dataclass(frozen=True)
class Race:
    """Cells that pass the same rungs.

    Attributes:
        cells: all, also those that have ended: they are what the others are held against.
        pending: those that are to run.
        rungs: optimiser steps, ascending; empty where nobody competes.
    """

    cells: tuple[Cell, ...]
    pending: tuple[Cell, ...]
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Competitor:
    """The seeds of one configuration, which go on or end together.

    Attributes:
        score: higher is better, whatever the metric; -inf where a seed diverged.
        out: a seed of it has been ended; such a competitor comes after all others.
    """

    cells: tuple[Cell, ...]
    score: float
    out: bool

    @property
    def rank(self) -> tuple[bool, float]:
        """Higher is better."""
        return not self.out, self.score


def plan_races(
    cells: Sequence[Cell], pending: Sequence[Cell], halving: HalvingSpec, resources: Resources
) -> list[Race]:
    """Cells by what sets their rungs: base, task and loop; one race without rungs where halving is off.

    Args:
        cells: all of the study that was asked for.
        pending: those that are to run; a race without any is left out.

    Raises:
        ConfigError: cells compete and no validation before their end can decide.
    """
    if halving.eta is None:
        return [Race(tuple(cells), tuple(pending))] if pending else []
    waiting: dict[Any, list[Cell]] = defaultdict(list)
    for cell in pending:
        waiting[_course(cell)].append(cell)
    races = []
    for course, own in waiting.items():
        group = tuple(cell for cell in cells if _course(cell) == course)
        races.append(Race(group, tuple(own), _rungs(group, halving, resources)))
    return races


def rung_steps(total: int, every: int, eta: int, min_share: float) -> tuple[int, ...]:
    """Steps of the first validations after total / eta^k, ascending.

    Args:
        total: optimiser steps of a whole run.
        every: optimiser steps between validations.
        min_share: leaves out k for which 1 / eta^k is less.
    """
    steps, parts = set(), eta
    while min_share * parts <= 1:
        step = math.ceil(total / (parts * every)) * every
        steps |= {step} if step < total else set()
        parts *= eta
    return tuple(sorted(steps))


def judge(
    cells: Sequence[Cell], records: Records, rung: int, step: int, halving: HalvingSpec
) -> dict[str, Elimination]:
    """Who is ended at a rung: verdicts by run id, on cells that pause there.

    Competitors whose score is not known (a failed seed) are left alone and not counted. Equal scores share a place, so
    a tie for the last place that goes on keeps all who share it.

    Args:
        records: by run id.
        rung: number of the decision, from 1.
    """
    assert halving.eta is not None
    verdicts: dict[str, Elimination] = {}
    for group in _groups(cells, halving.scope):
        field = [_competitor(seeds, records, step) for seeds in group]
        judged = [competitor for competitor in field if competitor is not None]
        verdicts |= _judge(judged, records, rung, step, halving.eta)
    return verdicts


def _judge(field: Sequence[_Competitor], records: Records, rung: int, step: int, eta: int) -> dict[str, Elimination]:
    if not field:
        return {}
    ranks = sorted((competitor.rank for competitor in field), reverse=True)
    last = ranks[math.ceil(len(field) / eta) - 1]
    lost = [competitor for competitor in field if competitor.rank < last or competitor.out]
    return {
        cell.run_id: Elimination(
            rung=rung,
            step=step,
            score=_score_of_metric(competitor.score, cell.spec.task.metric),
            place=1 + sum(rank > competitor.rank for rank in ranks),
            of=len(field),
            kept=len(field) - len(lost),
        )
        for competitor in lost
        for cell in competitor.cells
        if _pauses_at(records[cell.run_id], step)
    }


def _course(cell: Cell) -> tuple[Any, ...]:
    return cell.spec.model, cell.spec.task, cell.spec.trainer


def _rungs(cells: Sequence[Cell], halving: HalvingSpec, resources: Resources) -> tuple[int, ...]:
    if all(len(group) == 1 for group in _groups(cells, halving.scope)):
        return ()
    assert halving.eta is not None
    trainer, data = cells[0].spec.trainer, resources.data(cells[0].spec)
    total, every = total_steps(data, trainer), trainer.eval_every or steps_per_epoch(data, trainer)
    rungs = rung_steps(total, every, halving.eta, halving.min_share)
    if not rungs:
        raise ConfigError(
            "halving.eta",
            halving.eta,
            f"null, or a number for which cells can be held against each other between halving.min_share "
            f"({halving.min_share:g}) and the end of their {total} steps; they are validated every {every} steps "
            "(trainer.eval_every)",
        )
    return rungs


def _groups(cells: Sequence[Cell], scope: str) -> list[list[tuple[Cell, ...]]]:
    """Who competes with whom: seeds of one configuration form one competitor; the head alone never competes."""
    groups: dict[str, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if adapts(cell.spec):
            one_seed = dataclasses.replace(cell.spec, seed=0)
            lora, optim = dataclasses.replace(one_seed.lora, alpha=1.0), dataclasses.replace(one_seed.optim, lr=1.0)
            group = "" if scope == "all" else canonical_json(dataclasses.replace(one_seed, lora=lora, optim=optim))
            groups[group][canonical_json(one_seed)].append(cell)
    return [[tuple(seeds) for seeds in group.values()] for group in groups.values()]


def _competitor(cells: tuple[Cell, ...], records: Records, step: int) -> _Competitor | None:
    """None where a seed has no score to be judged by, or was ended at an earlier rung."""
    found = [records[cell.run_id] for cell in cells]
    scores = [None if record is None else _best_until(record, step) for record in found]
    ends = [record.eliminated.step for record in found if record is not None and record.eliminated is not None]
    if None in scores or any(end < step for end in ends):
        return None
    return _Competitor(cells, math.fsum(score for score in scores if score is not None) / len(scores), bool(ends))


def _best_until(record: RunRecord, step: int) -> float | None:
    """Best validation up to a step, higher being better; None where the run did not come that far."""
    reached = any(point.step >= step for point in record.metrics.history)
    if record.status == "diverged" and not reached:
        return -math.inf
    if record.status == "failed" or not (reached or record.status == "completed"):
        return None
    metric = record.run_spec().task.metric
    values = [point.validation.get(metric) for point in record.metrics.history if point.step <= step]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return max((sign * value for value in values if value is not None), default=-math.inf)


def _score_of_metric(score: float, metric: str) -> float | None:
    if score == -math.inf:
        return None
    return -score if metric in LOWER_IS_BETTER else score


def _pauses_at(record: RunRecord | None, step: int) -> bool:
    """Whoever has gone on from a rung is not called back, also where competitors come later."""
    return is_paused(record) and record is not None and record.metrics.history[-1].step == step


def is_paused(record: RunRecord | None) -> bool:
    """Whether a cell waits at a rung, or anywhere else on its way."""
    return record is not None and record.status == "interrupted" and bool(record.metrics.history)


def has_reached(record: RunRecord | None, step: int) -> bool:
    """Whether a cell waits at a step or beyond."""
    return is_paused(record) and record is not None and record.metrics.history[-1].step >= step
