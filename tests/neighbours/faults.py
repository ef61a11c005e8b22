"""Faults in some cells of a sweep, by their seeds; each comes at its cell's third step, where it is trained."""

from __future__ import annotations

import functools
import math
import os
import signal
from types import ModuleType
from typing import Any

AT_STEP = 2


def exception() -> None:
    raise RuntimeError("a broken cell")


def leave() -> None:
    raise SystemExit("a library has had enough")


def memory() -> None:
    import torch  # noqa: PLC0415 - the process in front must not load it

    torch.empty(1 << 60)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {"exception": exception, "exit": leave, "memory": memory, "kill": kill, "nan": lambda: math.nan}


def plant(faults: dict[str, str]) -> None:
    from src.training.lane import Lane  # noqa: PLC0415 - as above

    apply_step = Lane.apply_step

    def faulty(lane: Lane, loss: float) -> float:
        fault = faults.get(str(lane.spec.seed))
        if fault is not None and lane.step == AT_STEP:
            loss = FAULTS[fault]() or loss
        return apply_step(lane, loss)

    Lane.apply_step = faulty  # type: ignore[method-assign]


def plant_in_children(module: ModuleType, faults: dict[str, str]) -> None:
    """Faults in whatever the module's own `isolate` comes back in."""
    isolate = module.isolate

    @functools.wraps(isolate)
    def isolate_and_plant(*arguments: Any, **more: Any) -> Any:
        losses = isolate(*arguments, **more)
        plant(faults)
        return losses

    module.isolate = isolate_and_plant  # type: ignore[attr-defined]
