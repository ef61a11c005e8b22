"""What a further cell costs besides its training: studies of n and of 2 n cells with one step each, in one process."""

from __future__ import annotations

import contextlib
import cProfile
import dataclasses
import io
import pstats
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from src.benchmarks.measure import Work, in_turns
from src.errors import HarnessError
from src.experiment.study import run_study
from src.spec import RunSpec, Settings, TrackingSpec, normalise

# Small splits, so that little of the time is training and evaluation, which are taken off.
SPLITS: dict[str, Any] = {"train_size": 64, "validation_size": 16, "test_size": 16}
FEW, MANY = "half of the cells", "all cells"
RANKS = (1, 2, 3, 4, 5, 6, 7, 8)
TARGETS = ("q", "k", "v", "o", "qk", "qv", "qo", "kv", "ko", "vo", "qkv", "qko", "qvo", "kvo", "qkvo")
# What a further cell consists of: label, end of the file's path, function; none lies within another.
PARTS = (
    ("adapters, head", "models/adapted.py", "__init__"),
    ("memory counted at the first step", "training/costs.py", "measure_forward"),
    ("checkpoint", "training/checkpoint.py", "save_lanes"),
    ("tracker", "experiment/session.py", "start_tracker"),
    ("adapter, head, predictions on disk", "experiment/artifacts.py", "save_lane"),
    ("record", "records/record.py", "write_record"),
    ("records read", "records/record.py", "read_record"),
    ("table and page", "reporting/files.py", "write_report"),
    ("table on the terminal", "experiment/console.py", "print_table"),
)


@dataclass(frozen=True)
class FixedCost:
    """Of one kind of further cells, in seconds a cell.

    Attributes:
        wall: by round, everything.
        trained: by round, what the records count as steps and evaluations.
        parts: from one profiled run of each size; a profile slows Python's own part down.
    """

    wall: tuple[float, ...]
    trained: tuple[float, ...]
    parts: dict[str, float]

    @property
    def fixed(self) -> tuple[float, ...]:
        """By round, what is left without training."""
        return tuple(wall - trained for wall, trained in zip(self.wall, self.trained, strict=True))


class Studies:
    """Studies of cells that differ by learning rate and seed alone, or by rank and targets.

    Args:
        folder: for what they write; emptied before each.
    """

    def __init__(self, spec: RunSpec, settings: Settings, folder: Path) -> None:
        task = dataclasses.replace(spec.task, **SPLITS)
        trainer = dataclasses.replace(spec.trainer, max_steps=1, eval_every=None)
        self.spec = dataclasses.replace(spec, task=task, trainer=trainer)
        tracking = TrackingSpec(backend="none")
        self.settings = dataclasses.replace(settings, output_dir=str(folder), study="cells", tracking=tracking)
        self.folder = folder

    def rates(self, number: int) -> list[RunSpec]:
        """Cells of one configuration."""
        optim = self.spec.optim
        return [
            dataclasses.replace(self.spec, optim=dataclasses.replace(optim, lr=optim.lr * (1 + i / 1000)))
            for i in range(number)
        ]

    def shapes(self, number: int) -> list[RunSpec]:
        """Cells of as many configurations.

        Raises:
            HarnessError: more than there are.
        """
        found = [
            normalise(
                dataclasses.replace(
                    self.spec, lora=dataclasses.replace(self.spec.lora, rank=rank, budget=None, targets=targets)
                )
            )
            for targets in TARGETS  # ranks innermost, so that half of the cells have the same figures as all
            for rank in RANKS
        ]
        if number > len(found):
            raise HarnessError(f"There are {len(found)} cells of different rank and targets here, not {number}.")
        return found[:number]

    def empty(self) -> None:
        """As before the first start."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, specs: Sequence[RunSpec]) -> float:
        """Seconds that the records count as steps and evaluations, of all cells.

        Raises:
            HarnessError: a cell did not complete.
        """
        with _silent():
            outcome = run_study(specs, self.settings)
        seconds = [record.time["total_s"] for record in outcome.records if record is not None]
        if outcome.num_failed or len(seconds) != len(specs):
            raise HarnessError(f"{outcome.num_failed} cells of {len(specs)} did not complete, so nothing is said.")
        return sum(float(value or 0.0) for value in seconds)


def measure(studies: Studies, specs: Sequence[RunSpec], rounds: int) -> FixedCost:
    """Time the study of half of the cells and that of all of them in turns; what they differ by is the cells' own."""
    half, further = len(specs) // 2, len(specs) - len(specs) // 2
    trained: dict[str, list[float]] = {FEW: [], MANY: []}

    def run(name: str, number: int) -> None:
        trained[name].append(studies.run(specs[:number]))

    sizes = ((FEW, half), (MANY, len(specs)))
    work = [Work(name, partial(run, name, number), before=studies.empty) for name, number in sizes]
    studies.empty()
    studies.run(specs)  # so that what is loaded and measured once is there
    times = in_turns(work, rounds, torch.device("cpu"), warm=False)  # a study waits for its device
    return FixedCost(_each(times, further), _each(trained, further), _parts(studies, specs, half))


def _each(seconds: Mapping[str, Sequence[float]], further: int) -> tuple[float, ...]:
    """Of a further cell, by round."""
    return tuple((many - few) / further for few, many in zip(seconds[FEW], seconds[MANY], strict=True))


def _parts(studies: Studies, specs: Sequence[RunSpec], half: int) -> dict[str, float]:
    few, many = _profile(studies, specs[:half]), _profile(studies, specs)
    return {label: (many[label] - few[label]) / (len(specs) - half) for label in many}


def _profile(studies: Studies, specs: Sequence[RunSpec]) -> dict[str, float]:
    studies.empty()
    profile = cProfile.Profile()
    profile.runcall(studies.run, specs)
    seconds = dict.fromkeys((label for label, _, _ in PARTS), 0.0)
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        for label, path, function in PARTS:
            if name == function and file.endswith(path):
                seconds[label] += cumulative
    return seconds


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without tables and progress."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
