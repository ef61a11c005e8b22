"""Metrics of every participating lane on one split."""

from __future__ import annotations

import time
from collections.abc import Sequence

from src.data import TaskData, TokenSplit, evaluation_batches
from src.models.adapted import AdaptedModel
from src.models.score import Result, score
from src.training.lane import Lane


def evaluate_lanes(model: AdaptedModel, split: TokenSplit, data: TaskData, lanes: Sequence[Lane]) -> list[Result]:
    """Evaluate lanes as they are now, without dropout or label smoothing; their time is shared among them."""
    started = time.perf_counter()
    model.retain([lane.index for lane in lanes])
    spec = lanes[0].spec
    results = score(model, split, data, spec.task.kind, evaluation_batches(split, spec.trainer.eval_batch_size))
    share = (time.perf_counter() - started) / len(lanes)
    for lane in lanes:
        lane.eval_seconds += share
    return results
