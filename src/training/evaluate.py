"""Metrics of every participating lane on one split."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src.data import TaskData, TokenSplit, collate, evaluation_batches
from src.metrics import compute_metrics, language_metrics
from src.models.adapted import AdaptedModel, LaneOutput
from src.records import finite_scores
from src.spec import RunSpec, TaskKind
from src.training.lane import Lane
from src.training.losses import loss_sum


@dataclass(frozen=True)
class Result:
    """One lane on one split.

    Attributes:
        metrics: by name, None where undefined.
        predictions: one value an example in the split's order (class or number); None for causal_lm.
        finite: whether the loss is a number; what is scored on NaN logits means nothing.
    """

    metrics: dict[str, float | None]
    predictions: Tensor | None
    finite: bool


@dataclass
class _Sums:
    """What one lane adds up over the batches."""

    loss: Tensor
    count: int
    correct: Tensor
    predictions: list[Tensor]


def evaluate_lanes(model: AdaptedModel, split: TokenSplit, data: TaskData, lanes: Sequence[Lane]) -> list[Result]:
    """Evaluate lanes as they are now, without dropout or label smoothing; their time is shared among them."""
    started = time.perf_counter()
    model.retain([lane.index for lane in lanes])
    results = _evaluate(model, split, data, lanes[0].spec)
    share = (time.perf_counter() - started) / len(lanes)
    for lane in lanes:
        lane.eval_seconds += share
    return results


@torch.inference_mode()
def _evaluate(model: AdaptedModel, split: TokenSplit, data: TaskData, spec: RunSpec) -> list[Result]:
    kind, device = spec.task.kind, model.device
    zero = torch.zeros((), dtype=torch.float64, device=device)
    sums = [_Sums(zero.clone(), 0, zero.clone(), []) for _ in model.lanes]
    batches = evaluation_batches(split, spec.trainer.eval_batch_size)
    for rows in batches:
        batch = collate(split, rows, data.pad_id)
        for lane, output in zip(sums, model.forward([batch] * len(model.lanes), training=False), strict=True):
            _add(lane, kind, output)
    order = torch.cat(batches).argsort()
    return [_result(kind, lane, order, split, data.num_labels) for lane in sums]


def _add(sums: _Sums, kind: TaskKind, output: LaneOutput) -> None:
    sums.loss += loss_sum(kind, output)
    sums.count += len(output.targets)
    if kind == "regression":
        sums.predictions.append(output.logits.squeeze(-1))
        return
    chosen = output.logits.argmax(dim=-1)
    sums.correct += (chosen == output.targets).sum()
    if kind == "classification":
        sums.predictions.append(chosen)


def _result(kind: TaskKind, sums: _Sums, order: Tensor, split: TokenSplit, num_labels: int) -> Result:
    loss = float(sums.loss)
    if kind == "causal_lm":
        return Result(finite_scores(language_metrics(loss, sums.count, int(sums.correct))), None, math.isfinite(loss))
    predictions = torch.cat(sums.predictions).cpu()[order]
    assert split.labels is not None
    metrics = compute_metrics(kind, predictions.tolist(), split.labels.tolist(), num_labels)
    return Result(finite_scores({"loss": loss / sums.count, **metrics}), predictions, math.isfinite(loss))
