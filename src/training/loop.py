"""The training loop: all lanes of a pack step together, each on its own batches, loss, clip, schedule and optimiser.

Lanes need not be at the same step: one that takes a slot which another has freed begins with its own first step.

A lane that diverges is never updated again, but its rows go through the model for as long as they would have anyway:
with fewer rows a matrix product may add up in another order, and so the other lanes stay as they were to the last bit.
"""

from __future__ import annotations

import logging
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

logger = logging.getLogger(__name__)

# Memory is counted on one and the same batch, so that seeds differ in what they learn, not in what they weigh.
COUNTED_SEED = 0


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
    present = [lane for lane in lanes if takes_part(lane, until)]
    start = next((lane.clock for lane in present if goes_on(lane, until)), 0)
    while running := [lane for lane in present if goes_on(lane, until)]:
        clock = running[0].clock
        if clock > start and clock % trainer.checkpoint_every == 0:
            observer.checkpoint()
        if observer.stop_requested():
            observer.checkpoint()
            raise InterruptedRunError("Stopped as asked; run the same command again to continue from the checkpoint.")
        if steppers := [lane for lane in present if lane.step < lane.total_steps]:
            _step(model, steppers, order, observer)
        due = [lane for lane in present if order.validation_due(lane.step, lane.total_steps)]
        if any(lane.status == "running" for lane in due):
            _validate(model, data, due, order, observer)
        rest = [lane for lane in present if takes_part(lane, until)]
        free = len(rest) < len(present) and any(goes_on(lane, until) for lane in rest)
        present = [*rest, *refill()] if free else rest


def goes_on(lane: Lane, until: int | None) -> bool:
    """Whether a lane has neither ended nor come to where it pauses."""
    return lane.status == "running" and (until is None or lane.step < until)


def takes_part(lane: Lane, until: int | None) -> bool:
    """Whether a lane's rows go through the model: it goes on, or it would if it had not diverged."""
    last = lane.total_steps if until is None else min(until, lane.total_steps)
    return goes_on(lane, until) or (lane.status == "diverged" and lane.step < last)


def _step(model: AdaptedModel, lanes: Sequence[Lane], order: DataOrder, observer: Observer) -> None:
    """One optimiser step of every lane that has not diverged."""
    uncounted = [lane for lane in lanes if not lane.costs]
    if uncounted:
        measure_forward(model, uncounted, order.batches(COUNTED_SEED, 0)[0])
    started = time.perf_counter()
    micro_batches = [order.batches(lane.spec.seed, lane.step) for lane in lanes]
    losses = _accumulate(model, lanes, micro_batches)
    measure_gradients(uncounted)
    shown: dict[int, float] = {}
    norms: dict[int, float] = {}
    for lane, loss in zip(lanes, losses, strict=True):
        if lane.status == "running":
            shown[lane.index] = loss
            try:
                norms[lane.index] = lane.apply_step(loss)
                continue
            except DivergedError as error:
                _diverge(lane, error)
        lane.skip_step()
    elapsed, total = (time.perf_counter() - started) / len(lanes), 0
    measure_optimizer([lane for lane in uncounted if lane.index in norms])
    for lane, batches in zip(lanes, micro_batches, strict=True):
        if lane.index in shown:
            tokens = sum(batch.num_tokens for batch in batches)
            lane.train_seconds, lane.tokens, total = lane.train_seconds + elapsed, lane.tokens + tokens, total + tokens
    observer.stepped([lane for lane in lanes if lane.index in norms], shown, norms, total)


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
        if lane.status == "diverged":
            continue
        evaluation = Evaluation(lane.step, lane.step / order.steps_per_epoch, lane.meter.take(), result.metrics)
        if not result.finite:
            cause = f"The validation loss is not finite after step {lane.step} of {lane.total_steps}; try a lower "
            _diverge(lane, DivergedError(f"{cause}optim.lr (now {lane.spec.optim.lr:g}) or lora.alpha."))
            continue
        lane.record(evaluation, model.state(lane.index))
        observer.evaluated(lane, evaluation)


def _diverge(lane: Lane, error: DivergedError) -> None:
    lane.diverge(error)
    logger.info("%s diverged: %s", lane.run_id, error)
