"""One lane: a cell while it trains, with its own optimiser, schedule, history and best state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from src.errors import DivergedError
from src.spec import LOWER_IS_BETTER, RunSpec
from src.training.schedule import lr_factor

LaneStatus = Literal["running", "stopped", "diverged"]
Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Evaluation:
    """One validation.

    Attributes:
        step: optimiser steps taken before it.
        epoch: the same in passes over train.
        train_loss: mean training loss per step since the last validation, None if no step was taken.
    """

    step: int
    epoch: float
    train_loss: float | None
    validation: Metrics


@dataclass
class LossMeter:
    """Mean loss of the steps since the last `take`."""

    total: float = 0.0
    steps: int = 0

    def add(self, loss: float) -> None:
        """Count one step."""
        self.total += loss
        self.steps += 1

    def take(self) -> float | None:
        """The mean so far, then start again."""
        mean = self.total / self.steps if self.steps else None
        self.total, self.steps = 0.0, 0
        return mean


@dataclass
class Lane:
    """State of one cell in training; nothing in it depends on the other lanes.

    Attributes:
        index: lane number within the adapted model.
        parameters: what it trains, by name.
        total_steps: length of its schedule.
        offset: steps that its pack had taken before this lane's first one.
        train_seconds, eval_seconds: its share of the pack's time in steps and in evaluations.
        tokens: tokens (without padding) trained on.
        costs: bytes of memory by name, as src.training.costs counts them at the first step; empty before it.
    """

    index: int
    run_id: str
    spec: RunSpec
    parameters: Mapping[str, nn.Parameter]
    total_steps: int
    status: LaneStatus = "running"
    error: DivergedError | None = None
    step: int = 0
    offset: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    tokens: int = 0
    history: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)
    meter: LossMeter = field(default_factory=LossMeter)
    costs: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.optimizer = make_optimizer(self.spec, self.parameters)

    def apply_step(self, loss: float) -> float:
        """Clip, set the learning rate, step, and clear the gradients.

        Returns:
            The gradient's global norm before clipping.

        Raises:
            DivergedError: loss or gradient is not finite; nothing is changed then.
        """
        norm = self._clip()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DivergedError(
                f"The loss is {loss:g} and the gradient norm {norm:g} at step {self.step + 1} of {self.total_steps}; "
                f"try a lower optim.lr (now {self.spec.optim.lr:g}) or lora.alpha."
            )
        factor = self.lr_factor
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.meter.add(loss)
        self.step += 1
        return norm

    @property
    def clock(self) -> int:
        """Steps of its pack; its own unless it took a slot that another lane freed."""
        return self.offset + self.step

    @property
    def lr_factor(self) -> float:
        """Share of the peak learning rate for the coming step."""
        return lr_factor(self.spec.optim, self.step, self.total_steps)

    @property
    def last_lr(self) -> float:
        """The adapters' learning rate in the step before."""
        return float(self.optimizer.param_groups[0]["lr"])

    def record(self, evaluation: Evaluation, state: dict[str, Tensor]) -> None:
        """Append a validation; keep the state if it is the best so far; stop when patience runs out."""
        self.history.append(evaluation)
        if self.best is None or self._score(evaluation) > self._score(self.best):
            self.best, self.best_state = evaluation, state
        patience = self.spec.trainer.patience
        since_best = len(self.history) - 1 - self.history.index(self.best)
        if self.step >= self.total_steps or (patience is not None and since_best >= patience):
            self.status = "stopped"

    def diverge(self, error: DivergedError) -> None:
        """Never update the lane again."""
        self.status, self.error = "diverged", error
        self.optimizer.zero_grad(set_to_none=True)

    def skip_step(self) -> None:
        """Let a step pass without an update."""
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _score(self, evaluation: Evaluation) -> float:
        metric = self.spec.task.metric
        value = evaluation.validation[metric]
        if value is None:
            return -math.inf
        return -value if metric in LOWER_IS_BETTER else value

    def _clip(self) -> float:
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.spec.optim.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(list(self.parameters.values()), self.spec.optim.clip, norm)
        return float(norm)


def make_optimizer(spec: RunSpec, parameters: Mapping[str, nn.Parameter]) -> torch.optim.AdamW:
    """AdamW with the head at head_lr and the rest at lr, B of LoRA at its multiple (LoRA+)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(spec.optim.lr, spec.optim.weight_decay): []}
    for name, parameter in parameters.items():
        groups.setdefault(_rates(spec, name, parameter), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": peak, "peak_lr": peak, "weight_decay": decay} for (peak, decay), p in groups.items()],
        betas=(spec.optim.beta1, spec.optim.beta2),
        eps=spec.optim.eps,
        fused=True,
    )


def _rates(spec: RunSpec, name: str, parameter: nn.Parameter) -> tuple[float, float]:
    """Peak learning rate and weight decay of a parameter; biases, gains and magnitudes do not decay."""
    optim, peak = spec.optim, spec.optim.lr
    if name.startswith("head."):
        peak = optim.head_lr
    elif name.endswith(".B"):
        peak = optim.lr * spec.lora.b_lr_ratio
    return peak, 0.0 if parameter.dim() < 2 else optim.weight_decay
