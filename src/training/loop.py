"""The training loop: all lanes of a pack step together, each on its own batches, loss, clip, schedule and optimiser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import torch

from src.data import Batch, TaskData
from src.errors import DivergedError, InterruptedRunError
from src.models.adapted import AdaptedModel
from src.models.losses import loss_sum, num_targets
from src.training.costs import measure_forward, measure_gradients, measure_optimizer
from src.training.data_order import DataOrder
from src.training.evaluate import evaluate_lanes
from src.training.lane import Evaluation, Lane


class Observer(Protocol):
    """What the loop tells the outside; none of it may change training."""

    def stepped(self, lanes: Sequence[Lane], losses: dict[int, float], norms: dict[int, float], tokens: int) -> None:
        """After each optimiser step: loss and gradient norm by lane index, tokens of all lanes."""

    def evaluated(self, lane: Lane, evaluation: Evaluation) -> None:
        """After each validation of a lane."""

    def checkpoint(self) -> None:
        """Save all lanes as they are between two steps; called at the chosen interval and before an interruption."""

    def stop_requested(self) -> bool:
        """Whether to checkpoint and raise InterruptedRunError before the next step."""


def train_pack(
    model: AdaptedModel, data: TaskData, lanes: Sequence[Lane], observer: Observer, until: int | None = None
) -> None:
    """Train lanes to their end, from wherever they are; all must be at the same step.

    Afterwards every lane is stopped (with its best state) or diverged, or, with `until`, running at that step.

    Args:
        until: a step after which to return; None for no such step.

    Raises:
        InterruptedRunError: a stop was requested; checkpoints were written.
    """
    trainer = lanes[0].spec.trainer
    order = DataOrder(data, trainer)
    active = [lane for lane in lanes if lane.status == "running"]
    start = active[0].step if active else 0
    while active:
        model.retain([lane.index for lane in active])
        step = active[0].step
        if until is not None and step >= until:
            return
        if step > start and step % trainer.checkpoint_every == 0:
            observer.checkpoint()
        if observer.stop_requested():
            observer.checkpoint()
            raise InterruptedRunError("Stopped as asked; run the same command again to continue from the checkpoint.")
        if step < active[0].total_steps:
            _step(model, active, order, observer)
        survivors = [lane for lane in active if lane.status == "running"]
        if survivors and order.validation_due(survivors[0].step, survivors[0].total_steps):
            _validate(model, data, survivors, order, observer)
        active = [lane for lane in survivors if lane.status == "running"]


def _step(model: AdaptedModel, lanes: Sequence[Lane], order: DataOrder, observer: Observer) -> None:
    """One optimiser step of every lane; a lane that diverges is marked, the others go on."""
    uncounted = [lane for lane in lanes if not lane.costs]
    measure_forward(model, uncounted, [order.batches(lane.spec.seed, 0)[0] for lane in uncounted])
    started = time.perf_counter()
    micro_batches = [order.batches(lane.spec.seed, lane.step) for lane in lanes]
    losses = _accumulate(model, lanes, micro_batches)
    measure_gradients(uncounted)
    norms: dict[int, float] = {}
    for lane, loss in zip(lanes, losses, strict=True):
        try:
            norms[lane.index] = lane.apply_step(loss)
        except DivergedError as error:
            lane.diverge(error)
    elapsed, total = (time.perf_counter() - started) / len(lanes), 0
    measure_optimizer([lane for lane in uncounted if lane.status == "running"])
    for lane, batches in zip(lanes, micro_batches, strict=True):
        tokens = sum(batch.num_tokens for batch in batches)
        lane.train_seconds, lane.tokens, total = lane.train_seconds + elapsed, lane.tokens + tokens, total + tokens
    shown = {lane.index: loss for lane, loss in zip(lanes, losses, strict=True)}
    observer.stepped([lane for lane in lanes if lane.status == "running"], shown, norms, total)


def _accumulate(model: AdaptedModel, lanes: Sequence[Lane], micro_batches: Sequence[Sequence[Batch]]) -> list[float]:
    """Gradients of each lane's mean loss over its whole step.

    The lanes' parameters are disjoint, so the gradient of the sum of their losses is each lane's own.

    Returns:
        Mean loss of each lane.
    """
    task = lanes[0].spec.task
    counts = [sum(num_targets(task.kind, batch) for batch in batches) for batches in micro_batches]
    sums = torch.zeros(len(lanes), dtype=torch.float64, device=model.device)
    for batches in zip(*micro_batches, strict=True):
        outputs = model.forward(batches, training=True)
        losses = torch.stack(
            [
                loss_sum(task.kind, output, lane.spec.optim.label_smoothing) / max(1, count)
                for lane, output, count in zip(lanes, outputs, counts, strict=True)
            ]
        )
        losses.sum().backward()
        sums += losses.detach()
    return sums.tolist()


def _validate(model: AdaptedModel, data: TaskData, lanes: Sequence[Lane], order: DataOrder, observer: Observer) -> None:
    results = evaluate_lanes(model, data.validation, data, lanes)
    for lane, result in zip(lanes, results, strict=True):
        evaluation = Evaluation(lane.step, lane.step / order.steps_per_epoch, lane.meter.take(), result.metrics)
        if not result.finite:
            lane.diverge(
                DivergedError(
                    f"The validation loss is not finite after step {lane.step} of {lane.total_steps}; try a lower "
                    f"optim.lr (now {lane.spec.optim.lr:g}) or lora.alpha."
                )
            )
            continue
        lane.record(evaluation, model.state(lane.index))
        observer.evaluated(lane, evaluation)
