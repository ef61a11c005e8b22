"""What a large sweep costs besides its training: from the command line to packs, and from its records to the report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from src.benchmarks.found import Found, Goal, Table
from src.benchmarks.machine import describe_machine
from src.benchmarks.request import Request
from src.benchmarks.scale_records import peak_bytes, report_scale
from src.experiment.packing.plan import plan_packs
from src.experiment.resolve import resolve_cells
from src.records import StudyPaths
from src.spec import RunSpec, Settings

C = TypeVar("C")
Compose = Callable[[Sequence[str]], Sequence[C]]
Check = Callable[[Sequence[C]], Sequence[tuple[RunSpec, Settings]]]
# 4 kinds of LoRA and adapter layers, each at 5 target sets, 5 budgets and 10 learning rates: without LoRA targets count
# for nothing, so that some points are the same cell, as in sweeps/methods.yaml.
AXES = (
    "method=lora,adapter_h",
    "lora=default,dora,rslora,pissa",
    "lora.targets=q,v,qv,qk,qkvo",
    "lora.budget=73728,100000,147456,200000,294912",
    "optim.lr=1e-4,2e-4,3e-4,5e-4,1e-3,2e-3,3e-3,5e-3,1e-2,3e-2",
)
NUM_COMBINATIONS = 2000
PACK_SIZE = 8


def axes(num_cells: int) -> list[str]:
    """Overrides of a sweep with at least so many grid points, the rest of them seeds: up to a multiple of 2,000."""
    return [*AXES, f"seed=range({-(-num_cells // NUM_COMBINATIONS)})"]


def run(request: Request, compose: Compose[C], check: Check[C]) -> Found:
    """Planning and report by number of cells.

    Args:
        compose, check: as in `plan_scale`.

    Raises:
        HarnessError: as `plan_scale` and `report_scale`.
    """
    folder = Path(request.settings.output_dir) / "bench" / "scale"
    sizes = sorted(request.options["cells"])
    rows = []
    for size in sizes:
        stages = plan_scale(size, compose, check, request.overrides)
        planning = peak_bytes()
        (report,) = report_scale([size], folder)
        stages |= {"read": report["read_s"], "report": report["report_s"] + report["print_s"]}
        rows.append(
            {"cells": size, **stages, "total": sum(stages.values()), "peak": max(planning, report["peak_bytes"])}
        )
    largest, total, peak = (rows[-1][name] for name in ("cells", "total", "peak"))
    return Found(
        tables=(_table(rows),),
        goals=(
            Goal(f"seconds for {largest:,} cells", total, 60, "at most"),
            Goal(f"peak memory for {largest:,} cells in GB", peak / 1e9, 1, "at most"),
        ),
        checks=(),
        raw={"scale": rows},
        env=describe_machine(torch.device("cpu")),
        notes=(
            f"The cells planned are the next multiple of {NUM_COMBINATIONS:,}; the records reported are simulated.",
        ),
    )


def plan_scale(num_cells: int, compose: Compose[C], check: Check[C], overrides: Sequence[str] = ()) -> dict[str, float]:
    """Seconds of each stage of planning a sweep of about `num_cells` grid points, in the order in which they come.

    Args:
        compose: from overrides to composed cells (src/config/compose.py).
        check: from composed cells to specs and settings (src/config/cells.py).
        overrides: of all cells, such as a model.

    Returns:
        compose, check (every value, without the model), resolve (against the model's shapes) and plan (packs).

    Raises:
        ConfigError, BadCellsError: cells do not fit the model.
        HarnessError: the model cannot be had.
    """
    clock = [time.perf_counter()]
    composed = compose([*overrides, *axes(num_cells)])
    clock.append(time.perf_counter())
    checked = check(composed)
    clock.append(time.perf_counter())
    cells = resolve_cells([spec for spec, _ in checked], Path(checked[0][1].cache_dir))
    unique = list({cell.run_id: cell for cell in cells}.values())
    clock.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        plan_packs(unique, PACK_SIZE, StudyPaths.of(folder, "scale"))
    clock.append(time.perf_counter())
    stages = ("compose", "check", "resolve", "plan")
    return {name: end - start for name, start, end in zip(stages, clock[:-1], clock[1:], strict=True)}


def _table(rows: Sequence[Mapping[str, float]]) -> Table:
    """Stages as rows, sizes as columns."""
    stages = [name for name in rows[0] if name not in {"cells", "peak"}]
    lines = [(f"{name}, s", *(f"{row[name]:.2f}" for row in rows)) for name in stages]
    lines.append(("peak, MB", *(f"{row['peak'] / 1e6:.0f}" for row in rows)))
    return Table("Scale", ("", *(f"{row['cells']:,} cells" for row in rows)), tuple(lines))
