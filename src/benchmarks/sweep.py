"""`python -m src.bench sweep`: a whole sweep as processes, from their start to their end, against peft.

ours          python -m src.train -m lora.rank=... lora.targets=..., report and W&B mirror (offline) included
ours32        the same with trainer.dtype=float32
trainer       peft + transformers' Trainer at its defaults, one process a cell, one after another
peft          peft in one process in the fastest of several settings, a plain loop over the cells
concurrent    the same loop, one process a cell, all at once
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from src.benchmarks.found import Found, Goal, Table
from src.benchmarks.machine import describe_machine, require
from src.benchmarks.measure import Work, in_turns, ratio, timing_table
from src.benchmarks.peers.job import PeerResult, write_job, write_tokens
from src.benchmarks.peers.settings import Setting
from src.benchmarks.request import Request
from src.benchmarks.same_results import agree_first, agree_last
from src.benchmarks.sweep_cells import examples_of, make_job, specs_of
from src.benchmarks.sweep_rows import Sweep, concurrent, find_best, ours, peft, trainer
from src.experiment.resolve import resolve_cells
from src.experiment.resources import Resources
from src.models.hardware import has_native_bfloat16

# Names of the rows, and by how much longer than peft in one process each may take, for the estimate.
ROWS = {
    "ours": ("this harness", 0.6),
    "ours32": ("this harness, float32", 1.2),
    "trainer": ("peft + HF Trainer, a process a cell", 2.5),
    "peft": ("peft in one process", 1.0),
    "concurrent": ("peft, all processes at once", 1.2),
}
# A step's cost in examples that are evaluated: a forward pass is a third of a step or more.
EVALUATED = 2.5


def run(request: Request) -> Found:
    """Check that results agree, time all rows in turns, check their results.

    Raises:
        ConfigError, HarnessError: cells that peft cannot run, a process that failed, or results that differ.
    """
    require("peft", "accelerate")
    resources = Resources(request.settings.device, Path(request.settings.cache_dir))
    with tempfile.TemporaryDirectory(prefix="lora-sweep-bench-") as folder:
        sweep = prepare(request, resources, Path(folder))
        checks = [agree_first(sweep.cells, sweep.job, sweep.data, resources)]
        dtypes = ["float32", *(["bfloat16"] if has_native_bfloat16(resources.device) else [])]
        best, tried = find_best(sweep, dtypes)
        _estimate(sweep, tried[best.text])
        times = in_turns(_work(sweep, best), request.options["rounds"], resources.device, warm=False)
        checks += agree_last(sweep.results, len(sweep.data.test), sweep.job)
    notes, env = _notes(sweep, best, len(tried)), describe_machine(resources.device)
    return Found((_table(sweep, times),), _goals(times), tuple(checks), _raw(sweep, times, tried), env, notes)


def prepare(request: Request, resources: Resources, folder: Path) -> Sweep:
    """Resolve the cells and write what the peers read.

    Raises:
        ConfigError: cells that do not fit their model, or that peft cannot run.
    """
    cells = resolve_cells(specs_of(request), resources.cache_dir)
    data, tokens = resources.data(cells[0].spec), folder / "tokens.safetensors"
    write_tokens(examples_of(data), tokens)
    sweep = Sweep(request, cells, data, make_job(cells, data, str(tokens), resources), folder)
    write_job(sweep.job, sweep.job_file)
    return sweep


def _work(sweep: Sweep, best: Setting) -> list[Work]:
    runs: dict[str, Callable[[], list[PeerResult]]] = {
        "ours": partial(ours, sweep, sweep.cells[0].spec.trainer.dtype),
        "ours32": partial(ours, sweep, "float32"),
        "trainer": partial(trainer, sweep),
        "peft": partial(peft, sweep, best),
        "concurrent": partial(concurrent, sweep, best),
    }

    def keep(row: str) -> None:
        sweep.results.setdefault(ROWS[row][0], []).append(runs[row]())

    def clean() -> None:
        shutil.rmtree(sweep.output, ignore_errors=True)

    return [Work(ROWS[row][0], partial(keep, row), before=clean) for row in sweep.request.options["rows"]]


def _estimate(sweep: Sweep, step_s: float) -> None:
    """Say how long it may take, before it does."""
    options, trainer_spec, data = sweep.request.options, sweep.job.trainer, sweep.data
    validated = trainer_spec["epochs"] * len(data.validation) + len(data.test)
    steps = sweep.job.steps + validated / trainer_spec["batch_size"] / EVALUATED
    cell_s = sum(ROWS[row][1] for row in options["rows"]) * steps * step_s
    minutes = options["rounds"] * len(sweep.cells) * cell_s / 60
    print(f"{options['rounds']} rounds of {len(options['rows'])} rows: about {minutes:.0f} minutes", file=sys.stderr)


def _table(sweep: Sweep, times: Mapping[str, tuple[float, ...]]) -> Table:
    per_cell = {name: f"{median(seconds) / len(sweep.cells):.3g}" for name, seconds in times.items()}
    title = f"{len(sweep.cells)} cells of {sweep.job.steps} steps: whole processes, imports and loading included"
    return timing_table(title, times, next(iter(times)), unit="s", extra={"s a cell": per_cell})


def _raw(sweep: Sweep, times: Mapping[str, tuple[float, ...]], tried: Mapping[str, float]) -> dict[str, Any]:
    results = {
        name: [[dataclasses.asdict(cell) for cell in run] for run in rounds] for name, rounds in sweep.results.items()
    }
    return {"seconds": times, "results": results, "peft_step_s": tried, "job": dataclasses.asdict(sweep.job)}


def _goals(times: Mapping[str, tuple[float, ...]]) -> tuple[Goal, ...]:
    goals = []
    for row, bound in (("trainer", 3.0), ("peft", 1.5)):
        name = ROWS[row][0]
        goals.append(Goal(f"{name} / this harness", ratio(times, name, ROWS["ours"][0]), bound, "at least"))
    return tuple(goals)


def _notes(sweep: Sweep, best: Setting, tried: int) -> tuple[str, ...]:
    return (
        "Peers are given token ids ready-made, so they do not tokenise; this harness reads its own from its cache.",
        "The Trainer's process: float32, validation and checkpoint after each epoch, the best one tested; all else is "
        "a default, such as evaluations in batches of 8.",
        f"{ROWS['peft'][0]}: {best.text}, the fastest of {tried} settings; batches sorted by length and evaluations as "
        "this harness has them.",
        f"Precision of this harness: {sweep.cells[0].spec.trainer.dtype}, where not said otherwise.",
    )
