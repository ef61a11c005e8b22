"""Whether a sweep's rows did the same: the same losses to begin with, the same work and like scores at the end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import mean

import torch
from torch import nn

from src.benchmarks.peers.job import Job, PeerResult
from src.benchmarks.peers.loop import PeftLoop
from src.benchmarks.peers.settings import Setting
from src.data import TaskData
from src.errors import HarnessError
from src.experiment.resolve import Cell
from src.experiment.resources import Resources
from src.models.adapted import AdaptedModel
from src.models.setup import LaneSetup
from src.training import Evaluation, Lane, train_pack

STEPS = 3
LOSSES = 1e-4  # largest difference of two losses in float32
# Largest difference of the rows' mean test accuracies, beside twice its standard error: order of examples,
# initial values and precision differ.
SCORES = 0.03
PART_OF_EPOCH = 0.2  # largest difference in tokens where max_steps ends an epoch before its end
LEAST_STEPS = 100  # before which scores are still on their way up and say nothing


def agree_first(cells: Sequence[Cell], job: Job, data: TaskData, resources: Resources) -> str:
    """Train the first steps of each cell with both, on the same batches from the same A and head, without dropout.

    Raises:
        HarnessError: losses differ.
    """
    loop = PeftLoop(job, Setting("float32", "sdpa", keep_memory=False))
    steps = min(STEPS, job.steps)
    largest = 0.0
    for cell, peer in zip(cells, job.cells, strict=True):
        setup = _without_dropout(cell.setup)
        model = AdaptedModel(resources.base(setup.spec), [setup], num_labels=data.num_labels, pad_id=data.pad_id)
        try:
            with loop.adapted(dataclasses.replace(peer, dropout=0.0)) as (_, adapted):
                _copy(model, setup, adapted)
                theirs = loop.losses(adapted, peer.lr, steps)
            own = _own_losses(model, setup, data, job.steps, steps)
        finally:
            model.detach()
        apart = max(abs(a - b) for a, b in zip(own, theirs, strict=True))
        if not apart <= LOSSES:
            raise HarnessError(
                f"Not timed, because the losses of {cell.run_id} in its first {steps} steps differ from peft's by "
                f"{apart:.1e}, and by more than {LOSSES:g} they may not."
            )
        largest = max(largest, apart)
    return f"losses of the first {steps} steps of all {len(cells)} cells in float32 equal peft's to {largest:.1e}"


def agree_last(results: Mapping[str, Sequence[Sequence[PeerResult]]], num_test: int, job: Job) -> list[str]:
    """Compare what the rows found in all rounds; returns a sentence for each check.

    Raises:
        HarnessError: parameters, tokens or scores differ.
    """
    runs = [(row, run) for row, rounds in results.items() for run in rounds]
    # In a part of an epoch each order of examples meets others.
    allowed = {"adapter": 0.0, "head": 0.0, "tokens": 0.0 if job.trainer["max_steps"] is None else PART_OF_EPOCH}
    for read, share in allowed.items():
        first = [getattr(cell, read) for cell in runs[0][1]]
        for row, run in runs:
            own = [getattr(cell, read) for cell in run]
            if any(abs(a - b) > share * b for a, b in zip(own, first, strict=True)):
                raise HarnessError(f"Nothing is said of speed: {row} has {read} {own}, and {runs[0][0]} {first}.")
    tokens = "of the same number of tokens" if not allowed["tokens"] else "of about the same number of tokens"
    found = [f"in each cell, all rows trained the same number of parameters on examples {tokens}"]
    scores = {row: mean(cell.test for cell in run) for row, run in runs}
    listed = ", ".join(f"{row} {score:.4f}" for row, score in scores.items())
    if job.steps < LEAST_STEPS:
        return [*found, f"mean test accuracies ({listed}) are not compared before {LEAST_STEPS} steps"]
    middle = mean(scores.values())
    band = SCORES + 2 * math.sqrt(2 * middle * (1 - middle) / num_test)
    if max(scores.values()) - min(scores.values()) > band:
        raise HarnessError(
            f"Nothing is said of speed, because mean test accuracies differ by over {band:.3f}: {listed}."
        )
    return [*found, f"mean test accuracies are within {band:.3f} of one another: {listed}"]


def _without_dropout(setup: LaneSetup) -> LaneSetup:
    spec = setup.spec
    lora, trainer = dataclasses.replace(spec.lora, dropout=0.0), dataclasses.replace(spec.trainer, dtype="float32")
    return dataclasses.replace(setup, spec=dataclasses.replace(spec, lora=lora, trainer=trainer))


@torch.no_grad()
def _copy(model: AdaptedModel, setup: LaneSetup, adapted: nn.Module) -> None:
    """Give peft's model the A and the head of ours; B is 0 in both."""
    own, theirs = model.parameters(0), dict(adapted.named_parameters())
    for projection in setup.projections:
        name = f"base_model.model.backbone.{projection.module}.lora_A.default.weight"
        theirs[name].copy_(own[f"{projection.key}.A"])
    for name in ("weight", "bias"):
        theirs[f"base_model.model.head.modules_to_save.default.{name}"].copy_(own[f"head.{name}"])


def _own_losses(model: AdaptedModel, setup: LaneSetup, data: TaskData, total: int, steps: int) -> list[float]:
    watch = _Losses()
    train_pack(model, data, [Lane(0, "cell", setup.spec, model.parameters(0), total)], watch, steps)
    return watch.losses


class _Losses:
    """The training loop's Observer that keeps the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def stepped(self, lanes: Sequence[Lane], losses: dict[int, float], norms: dict[int, float], tokens: int) -> None:
        self.losses += losses.values()

    def evaluated(self, lane: Lane, evaluation: Evaluation) -> None:
        """Nothing to keep."""

    def checkpoint(self) -> None:
        """Nothing to save."""

    def stop_requested(self) -> bool:
        return False
