"""The command in a process of its own, and signals that come while it does something certain."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from src.experiment.processes.signals import APART_S
from src.records import RunPaths, StudyPaths
from tests.experiment.workplace import Workplace, record_of
from tests.faults.child import Child, nothing, start_command

RANKS = (1, 2, 3, 4)


@dataclass(frozen=True)
class SignalIn:
    """To be called in the process that is to get signals: it sends them to itself as a function of ours begins.

    Attributes:
        function: ``<module>:<name>``.
        numbers: one signal after the other.
        calls: how often the function begins before.
    """

    function: str
    numbers: tuple[int, ...]
    calls: int = 0

    def __call__(self) -> None:
        module, _, path = self.function.partition(":")
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, import_module(module))
        original, left = getattr(owner, name), [self.calls]

        def interrupted(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == -1:
                os.kill(os.getpid(), self.numbers[0])
                for number in self.numbers[1:]:
                    time.sleep(APART_S)
                    os.kill(os.getpid(), number)
            return original(*arguments, **named)

        setattr(owner, name, interrupted)


@dataclass(frozen=True)
class Command:
    """A sweep of four cells in two packs.

    Attributes:
        more: overrides that come last.
        told_in: folder for what it prints.
    """

    place: Workplace
    output: Path
    told_in: Path
    more: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """Overrides, with -m."""
        place = self.place
        return [
            "-m", f"lora.rank={','.join(map(str, RANKS))}", f"model.path={place.model}", f"task.path={place.data}",
            "task.test_split=null", "task.max_length=16", "task.train_size=null", "task.validation_size=12",
            "task.test_size=12", "lora.dropout=0.1", "tracking=none", "trainer.max_steps=12", "trainer.eval_every=6",
            "trainer.checkpoint_every=4", "trainer.dtype=float32", "study=tiny", f"output_dir={self.output}",
            f"cache_dir={place.cache}", "device=cpu", "pack=2", *self.more,
        ]  # fmt: skip

    def start(self, prepare: Callable[[], None] = nothing) -> Child:
        """Forked from a process that has done its imports."""
        told = self.told_in / f"{self.output.name}-told-{len(list(self.told_in.iterdir()))}"
        return start_command(self.arguments, told, prepare)

    def finish(self) -> None:
        """Run it to its end; nothing but whole runs is left then."""
        child = self.start()
        assert child.wait() == 0, child.text
        assert self.statuses == {"completed": len(RANKS)}
        assert self.checkpoints == []

    @property
    def runs(self) -> list[RunPaths]:
        """With a record."""
        study = StudyPaths(self.output / "tiny")
        return [study.run(path.parent.name) for path in sorted(study.runs.glob("*/record.json"))]

    @property
    def statuses(self) -> Counter[str]:
        return Counter(record_of(run)["status"] for run in self.runs)

    @property
    def checkpoints(self) -> list[str]:
        """The step of each checkpoint of each cell."""
        return sorted(path.name for path in self.output.glob("tiny/runs/*/checkpoints/step-*"))
