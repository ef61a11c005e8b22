"""The front door, with faults in some cells: ``python -m tests.neighbours.front '{"<seed>": "<fault>"}' <arguments>``.

A fault comes at the cell's third step, in the process that trains it.
"""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import sys
from typing import Any

from src.config import cells
from src.train import cli

AT_STEP = 2


def exception() -> None:
    raise RuntimeError("a broken cell")


def leave() -> None:
    raise SystemExit("a library has had enough")


def memory() -> None:
    import torch  # noqa: PLC0415 - the front process must not load it

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


def main() -> int:
    faults = json.loads(sys.argv.pop(1))
    isolate = cells.isolate

    @functools.wraps(isolate)
    def isolate_and_plant(*arguments: Any) -> Any:
        losses = isolate(*arguments)
        plant(faults)
        return losses

    cells.isolate = isolate_and_plant
    return cli()


if __name__ == "__main__":
    sys.exit(main())
