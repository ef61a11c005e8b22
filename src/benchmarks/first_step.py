"""One start of `python -m src.train`, ended right after its first step.

python -m src.benchmarks.first_step <when it was started, seconds since 1970> <result.json> <arguments of src.train>
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

STAGES = ("Python and the config", "torch, transformers and the rest", "data", "base model", "pack, first step")


def main(arguments: list[str]) -> None:
    """Run until the first step and write the seconds at which each of STAGES had ended."""
    started, result, *rest = arguments
    # By its name, as `python -m` finds it: what it imports is part of what is measured.
    cli = importlib.import_module("src.train").cli
    ended = {STAGES[0]: time.time() - float(started)}
    from src.experiment.resources import Resources  # noqa: PLC0415
    from src.experiment.study import run_study  # noqa: F401, PLC0415 - what src.config.cells imports when it is called
    from src.training.lane import Lane  # noqa: PLC0415

    ended[STAGES[1]] = time.time() - float(started)

    def mark(owner: Any, name: str, stage: str, then: Callable[[], None] = lambda: None) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def marked(*given: Any, **named: Any) -> Any:
            value = original(*given, **named)
            ended.setdefault(stage, time.time() - float(started))
            then()
            return value

        setattr(owner, name, marked)

    def leave() -> None:
        Path(result).write_text(json.dumps(ended))
        os._exit(0)

    mark(Resources, "_load_task", STAGES[2])
    mark(Resources, "_load_base", STAGES[3])
    mark(Lane, "apply_step", STAGES[4], leave)
    sys.argv = ["train", *rest]
    sys.exit(cli())


if __name__ == "__main__":
    main(sys.argv[1:])
