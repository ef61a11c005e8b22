"""The training loop: all lanes of a pack step together, each on its own batches, loss, clip, schedule and optimiser.

Lanes need not be at the same step: one that takes a slot which another has freed begins with its own first step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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


Refill = Callable[[], Sequence[Lane]]


def train_pack(
    model: AdaptedModel,
    data: TaskData,
    lanes: Sequence[Lane],
    observer: Observer,
    until: int | None = None,
    *,
    refill: Refill = tuple,
) -> None:
    """Train lanes to their end, from wherever they are.

    Afterwards every lane is stopped (with its best state) or diverged, or, with `until`, running at that step.

    Args:
        until: a step of its own at which a lane pauses; None for no such step.
        refill: called when some lanes have ended or paused and others go on: gives lanes to train in their place.

    Raises:
        InterruptedRunError: a stop was requested; checkpoints were written.
    """
    trainer = lanes[0].spec.trainer
    order = DataOrder(data, trainer)
    active = [lane for lane in lanes if goes_on(lane, until)]
    start = active[0].clock if active else 0
    while active:
        clock = active[0].clock
        if clock > start and clock % trainer.checkpoint_every == 0:
            observer.checkpoint()
        if observer.stop_requested():
            observer.checkpoint()
            raise InterruptedRunError("Stopped as asked; run the same command again to continue from the checkpoint.")
        if steppers := [lane for lane in active if lane.step < lane.total_steps]:
            _step(model, steppers, order, observer)
        running = (lane for lane in active if lane.status == "running")
        if due := [lane for lane in running if order.validation_due(lane.step, lane.total_steps)]:
            _validate(model, data, due, order, observer)
        rest = [lane for lane in active if goes_on(lane, until)]
        active = [*rest, *refill()] if 0 < len(rest) < len(active) else rest


def goes_on(lane: Lane, until: int | None) -> bool:
    """Whether a lane has neither ended nor come to where it pauses."""
    return lane.status == "running" and (until is None or lane.step < until)


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
    for places, batches in _passes(micro_batches):
        model.retain([lanes[place].index for place in places])
        outputs = model.forward(batches, training=True)
        losses = torch.stack(
            [
                loss_sum(task.kind, output, lanes[place].spec.optim.label_smoothing) / max(1, counts[place])
                for place, output in zip(places, outputs, strict=True)
            ]
        )
        losses.sum().backward()
        sums[places] += losses.detach()
    return sums.tolist()


def _passes(micro_batches: Sequence[Sequence[Batch]]) -> Iterator[tuple[list[int], list[Batch]]]:
    """Which lanes go through the model together, and with what; each lane's micro-batches come in their order.

    All lanes in every pass, but where some are at an epoch's last batch, which may have fewer rows than the others'.
    """
    for turn in range(max(map(len, micro_batches))):
        alike: dict[int, list[int]] = {}
        for place, batches in enumerate(micro_batches):
            if turn < len(batches):
                alike.setdefault(len(batches[turn].attention_mask), []).append(place)
        for places in alike.values():
            yield places, [micro_batches[place][turn] for place in places]


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
