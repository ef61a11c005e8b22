"""`python -m src.bench start`: what comes before the first step, what each further cell costs besides its training, and
how much sooner a second start has its data."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

from src.benchmarks.first_step import STAGES
from src.benchmarks.fixed_cost import FixedCost, Studies, measure
from src.benchmarks.found import Found, Goal, Table
from src.benchmarks.machine import describe_machine
from src.benchmarks.measure import Work, in_turns, ratio, spread, timing_table
from src.benchmarks.processes import start
from src.benchmarks.request import Request
from src.data import TaskData, TokenSplit
from src.errors import HarnessError
from src.experiment.resolve import resolve_cell
from src.experiment.resources import Resources
from src.models.loading import max_positions, outline
from src.models.preprocessing import load_data
from src.spec import ModelSpec, TaskSpec

FIRST, SECOND = "first start", "second start"
KINDS = {"rates": "another learning rate", "shapes": "another rank and targets"}
LONGEST = 512  # tokens of a document at its natural length


def run(request: Request) -> Found:
    """Time starts, further cells and tokenisation.

    Raises:
        ConfigError, HarnessError: the default cell does not fit, or what is read from the cache is not what was made.
    """
    options, settings = request.options, request.settings
    resources = Resources(settings.device, Path(settings.cache_dir))
    cell = resolve_cell(request.spec, resources.cache_dir)
    resources.data(cell.spec)
    with tempfile.TemporaryDirectory(prefix="lora-sweep-bench-") as folder:
        stages = [_start(request, Path(folder)) for _ in range(options["rounds"])]
        task = natural(request.spec.model, request.spec.task, resources.cache_dir)
        check, tokens = _tokenise(request.spec.model, task, resources.cache_dir, Path(folder), options["rounds"])
        studies = Studies(request.spec, settings, Path(folder) / "outputs")
        costs = {
            KINDS["rates"]: measure(studies, studies.rates(2 * options["cells"]), options["rounds"]),
            KINDS["shapes"]: measure(studies, studies.shapes(2 * options["cells"]), options["rounds"]),
        }
    number = f"{options['cells']} and {2 * options['cells']} cells"
    tables = (
        _stages_table(stages),
        timing_table(f"{task.path} until its examples are ready, up to {task.max_length} tokens", tokens, FIRST),
        _cells_table(costs, number),
        _parts_table(costs),
    )
    raw = {
        "stages": stages,
        "tokens": tokens,
        "cells": {name: dataclasses.asdict(cost) for name, cost in costs.items()},
    }
    return Found(tables, _goals(costs, tokens), (check,), raw, describe_machine(resources.device), _notes())


def natural(model: ModelSpec, task: TaskSpec, cache_dir: Path) -> TaskSpec:
    """All examples, cut only where the model ends."""
    most = max_positions(outline(model, task.kind, cache_dir))
    length = LONGEST if most is None else min(LONGEST, most)
    return dataclasses.replace(task, train_size=None, test_size=None, max_length=length)


def _start(request: Request, folder: Path) -> dict[str, float]:
    """Seconds at which each stage of one start had ended."""
    result, own = folder / "start.json", {"output_dir": str(folder / "first"), "study": "start"}
    shutil.rmtree(own["output_dir"], ignore_errors=True)
    rest = [word for word in request.overrides if word.partition("=")[0] not in {*own, "tracking"}]
    given = [*rest, *(f"{key}={value}" for key, value in own.items()), "tracking=none"]
    start([["-m", "src.benchmarks.first_step", repr(time.time()), str(result), *given]])
    ended: dict[str, float] = json.loads(result.read_text())
    return ended


def _tokenise(
    model: ModelSpec, task: TaskSpec, cache_dir: Path, folder: Path, rounds: int
) -> tuple[str, dict[str, tuple[float, ...]]]:
    """From the task's name to its examples, with an empty cache and with one that a first start has filled.

    Raises:
        HarnessError: the examples differ.
    """
    fresh, filled = folder / "fresh", folder / "filled"
    _link(cache_dir, filled)
    made, read = load_data(model, task, filled), load_data(model, task, filled)
    _expect_equal(made, read)

    def before() -> None:
        shutil.rmtree(fresh, ignore_errors=True)
        _link(cache_dir, fresh)

    work = [
        Work(FIRST, partial(load_data, model, task, fresh), before=before),
        Work(SECOND, partial(load_data, model, task, filled)),
    ]
    times = in_turns(work, rounds, torch.device("cpu"))
    sizes = " + ".join(str(len(split)) for split in (read.train, read.validation, read.test))
    return f"{sizes} examples of the second start equal those of the first", times


def _link(cache_dir: Path, folder: Path) -> None:
    """A cache that has what was fetched, and nothing that was made of it."""
    folder.mkdir()
    for name in ("assets", "converted", "pydoc"):
        if (cache_dir / name).is_dir():
            (folder / name).symlink_to((cache_dir / name).absolute())


def _expect_equal(made: TaskData, read: TaskData) -> None:
    same = made.report == read.report and made.label_names == read.label_names and made.pad_id == read.pad_id
    for role in ("train", "validation", "test"):
        own, other = getattr(made, role), getattr(read, role)
        if isinstance(own, TokenSplit):
            pairs = zip(vars(own).values(), vars(other).values(), strict=True)
            same = same and all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)
    if not same:
        raise HarnessError("Not timed, because the examples of the second start are not those of the first.")


def _stages_table(stages: Sequence[Mapping[str, float]]) -> Table:
    rows, before = [], dict.fromkeys(range(len(stages)), 0.0)
    for stage in STAGES:
        ended = [start[stage] for start in stages]
        own = [end - before[i] for i, end in enumerate(ended)]
        before = dict(enumerate(ended))
        low, high = spread(ended)
        rows.append((stage, f"{median(own):.2f}", f"{median(ended):.2f}", f"{low:.2f} to {high:.2f}"))
    return Table("A process until its first step", ("", "s", "ended at s", "quartiles"), tuple(rows))


def _cells_table(costs: Mapping[str, FixedCost], number: str) -> Table:
    rows = []
    for name, cost in costs.items():
        low, high = spread([1000 * value for value in cost.fixed])
        values = (median(cost.wall), median(cost.trained), median(cost.fixed))
        rows.append((name, *(f"{1000 * value:.1f}" for value in values), f"{low:.1f} to {high:.1f}"))
    columns = ("further cell", "all ms", "of it one step and evaluations", "fixed ms", "quartiles")
    return Table(f"A further cell, from studies of {number} with one step", columns, tuple(rows))


def _parts_table(costs: Mapping[str, FixedCost]) -> Table:
    labels = next(iter(costs.values())).parts
    rows = [(label, *(f"{1000 * cost.parts[label]:.1f}" for cost in costs.values())) for label in labels]
    return Table("What it consists of, ms in a profile", ("", *costs), tuple(rows))


def _goals(costs: Mapping[str, FixedCost], tokens: Mapping[str, tuple[float, ...]]) -> tuple[Goal, ...]:
    goals = [Goal(f"fixed cost of {name}, ms", 1000 * median(c.fixed), 50, "at most") for name, c in costs.items()]
    return (
        *goals,
        Goal("first start / second start through tokenisation", ratio(tokens, FIRST, SECOND), 20, "at least"),
    )


def _notes() -> tuple[str, ...]:
    return (
        "Further cells: W&B off, all in one process; the difference of two studies, divided by the cells that one has "
        "more, less what the records count as steps and evaluations. Checkpoint, files, record, and the cell's share "
        "of the report are in it.",
        "Starts: from the task's name to examples in memory: files read, documents compared, split and tokenised, the "
        "tokenizer loaded; assets are on the disk and the libraries imported in both.",
        "A profile slows Python's own part down, so its parts can add up to more than the whole.",
    )
