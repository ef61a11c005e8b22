"""Learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import math

from src.spec import OptimSpec


def lr_factor(optim: OptimSpec, step: int, total_steps: int) -> float:
    """Share of the peak learning rate at an optimiser step, in [0, 1].

    Linear warm-up over ceil(warmup * total_steps) steps, whose first step already moves; then constant, linear to
    zero, or half a cosine to zero at total_steps.

    Args:
        step: steps already taken, 0 .. total_steps - 1.
    """
    warmup_steps = math.ceil(optim.warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    match optim.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
