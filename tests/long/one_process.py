"""A long sweep in this process, which prints what it and wandb's service held after each cell.

python -m tests.long.one_process <folder> <cells> <none or offline> [memory or handles: an artificial leak]
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from src.experiment.study import run_study
from src.spec import TrackingSpec
from tests.experiment.workplace import Workplace, build
from tests.long.flat import Held, descendants

LEAKED_BYTES = 100_000


class Probe(logging.Handler):
    """Looks after each record that the study writes; and leaks, if that is asked for."""

    def __init__(self, leak: str) -> None:
        super().__init__()
        self.leak = leak
        self.leaked: list[Any] = []
        self.own: list[Held] = []
        self.service: list[Held] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Called for every log line; those that end with a count of cells say that one is done."""
        if "(%d/%d)" not in str(record.msg):
            return
        if self.leak == "memory":
            self.leaked.append(os.urandom(LEAKED_BYTES))
        if self.leak == "handles":
            self.leaked.append(os.open(os.devnull, os.O_RDONLY))
        own, *others = descendants(os.getpid())
        self.own.append(Held.now([own]))
        self.service.append(Held.now(others) if others else Held(0, 0, 0))


def sweep(place: Workplace, output: Path, num_cells: int, tracking: str, leak: str = "") -> Probe:
    """Train so many cells, in packs of 8."""
    probe = Probe(leak)
    specs = [place.spec("qv", 1 + seed % 4, seed=seed) for seed in range(num_cells)]
    logger = logging.getLogger("src.experiment.display.progress")
    logger.addHandler(probe)
    backend = TrackingSpec("none") if tracking == "none" else TrackingSpec(mode="offline")
    try:
        outcome = run_study(specs, place.settings(output, tracking=backend))
    finally:
        logger.removeHandler(probe)
    assert outcome.num_failed == 0
    return probe


def main() -> None:
    """Sweep, and print what was seen as JSON."""
    torch.set_num_threads(1)
    folder, num_cells, tracking, *leaks = sys.argv[1:]
    probe = sweep(build(Path(folder)), Path(folder) / "outputs", int(num_cells), tracking, *leaks)
    print(json.dumps({name: [asdict(held) for held in getattr(probe, name)] for name in ("own", "service")}))


if __name__ == "__main__":
    main()
