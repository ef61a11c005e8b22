"""Records through the real dataclasses, with every value that a test does not name set to something plain."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from src.comparison import StudyTable, Table, build_tables
from src.records import (
    Budget,
    Failure,
    HistoryPoint,
    Metrics,
    Params,
    RunRecord,
    Study,
    StudyPaths,
    write_record,
)
from src.spec import LoraSpec, ModelSpec, OptimSpec, RunSpec, TaskSpec, TrainerSpec, normalise, run_id, to_dict
from src.spec.validate import SIZED


def make_spec(targets: str = "qv", rank: int | None = 4, *, seed: int = 0, **changes: Any) -> RunSpec:
    """`changes` by dotted name with two underscores: ``optim__lr=0.01``."""
    spec = RunSpec(
        model=ModelSpec("asset:minilm"),
        task=TaskSpec("asset:r52", "classification"),
        lora=LoraSpec(targets, rank=rank, budget=None, alpha=16.0),
        optim=OptimSpec(lr=0.003, head_lr=0.01),
        trainer=TrainerSpec(),
        seed=seed,
    )
    for name, value in changes.items():
        group, key = name.split("__")
        spec = dataclasses.replace(spec, **{group: dataclasses.replace(getattr(spec, group), **{key: value})})
    return normalise(spec)


def make_record(
    spec: RunSpec,
    validation: float | None = 0.9,
    test: float | None = 0.8,
    *,
    status: str = "completed",
    message: str = "the loss is not finite at step 30",
    total_s: float | None = 60.0,
    memory: dict[str, int | None] | None = None,
) -> RunRecord:
    """A completed record, or one that ended otherwise with an error of type ValueError."""
    good = status == "completed"
    point = HistoryPoint(10, 1.0, 0.5, {spec.task.metric: validation})
    scores = Metrics({spec.task.metric: validation}, {spec.task.metric: test}, (point,))
    return RunRecord(
        run_id=run_id(spec),
        status=status,
        error=None if good or status == "interrupted" else Failure("ValueError", message, "Traceback ..."),
        spec=to_dict(spec),
        params=make_params(spec),
        metrics=scores if good else Metrics(),
        best_epoch=1.0 if good else None,
        time={"total_s": total_s, "train_s": total_s, "tokens": 1000, "tokens_per_s": 50.0, "pack_size": 8},
        memory=memory or {"peak_bytes": None},
        env={"versions": {"torch": "2.13.0"}, "git": {"commit": None, "dirty": None}},
        data={},
        tracking={"backend": "none", "id": None},
    )


def make_params(spec: RunSpec) -> Params:
    """Counts as if every matrix were 384 x 384, in one layer; a unit of any other size has 4,608 parameters, of d 1."""
    lora, method, base = spec.lora, spec.method, 22_713_216
    unit = 1 if method.name == "random_subspace" else 4608
    rank = (lora.rank or 8) if lora.targets != "none" else None
    size = method.size
    if method.name in SIZED and size is None and lora.budget is not None:
        size = lora.budget // unit
    match method.name:
        case "full":
            adapter = base
        case "bitfit":
            adapter = 50_000
        case _:
            adapter = (rank or 0) * 768 * len(lora.targets) + (size or 0) * unit
    budget = None if lora.budget is None else Budget(lora.budget, adapter, lora.budget - adapter)
    return Params(adapter, 20_020, base, None if lora.ranks else rank, budget, size)


def study_table(*records: RunRecord) -> StudyTable:
    return build_tables(Study("study", tuple(sorted(records, key=lambda record: record.run_id))))


def one_table(*records: RunRecord) -> Table:
    (table,) = study_table(*records).tables
    return table


def save(output_dir: Path, study: str, *records: RunRecord) -> StudyPaths:
    paths = StudyPaths.of(output_dir, study)
    for record in records:
        write_record(record, paths.run(record.run_id).record)
    return paths
