"""The adapters of a study, gathered by the base that they share, and put into one bank."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from src.comparison import Table, build_tables, choose
from src.errors import ConfigError, HarnessError
from src.experiment.bank.served import Resident, Served
from src.experiment.resources import Resources
from src.models.bank import AdapterBank, read_head, saved_pooling
from src.models.bank.agreement import check_answers, mixture
from src.models.bank.costs import base_bytes, checkpoint_bytes, time_passes, time_switches
from src.models.loading import max_positions
from src.models.sample_inputs import sample_inputs
from src.records import RunPaths, RunRecord, Study, StudyPaths
from src.spec import RunSpec

Which = Literal["best", "all"]


@dataclass(frozen=True)
class Shape:
    """The batch that is timed, and how often; length None is the study's own task.max_length."""

    batch: int
    length: int | None
    rounds: int


def residents(
    study: Study, paths: StudyPaths, which: Which, targets: Collection[str], limit: int | None
) -> list[list[Resident]]:
    """The study's adapters by base, at most `limit` for each; of ``best``, one run of each configuration.

    Args:
        targets: only these sets of letters; all where it is empty.

    Raises:
        HarnessError: there is no adapter.
    """
    tables = build_tables(study).tables
    best = [record for table in tables for record in _best(table)]
    records = best if which == "best" else [r for r in study.records if r.status == "completed"]
    groups: dict[Any, list[Resident]] = {}
    for record in records:
        spec, run = record.run_spec(), paths.run(record.run_id)
        wanted = not targets or spec.lora.targets in targets
        if wanted and spec.method.name == "lora" and run.adapter_weights.is_file():
            base = (spec.model.path, spec.model.revision, spec.model.projections, spec.task.kind, spec.trainer.dtype)
            groups.setdefault(base, []).append(_resident(run, record.run_id, spec))
    if not groups:
        raise HarnessError(_nothing(study, records, targets))
    return [group[:limit] for group in groups.values()]


def serve(group: Sequence[Resident], resources: Resources, shape: Shape) -> Served:
    """Put the adapters over one base, check that they answer as they should, and measure.

    Raises:
        ConfigError: a length that the model has no positions for.
        HarnessError: base or adapters cannot be loaded, or answers differ that should be equal.
    """
    spec = group[0].spec
    started = time.perf_counter()
    base = resources.base(spec)
    load_s = time.perf_counter() - started
    length, most = shape.length or spec.task.max_length, max_positions(base)
    if most is not None and length > most:
        raise ConfigError("length", length, f"at most {most}, the model's positions")
    bank = AdapterBank(base)
    try:
        left_out = {}
        for resident in group:
            head = None if resident.head is None else read_head(resident.head, resident.pooling)
            left_out[resident.name] = bank.load(resident.name, resident.folder, head)
        inputs = sample_inputs(base, shape.batch, length)
        main = next(iter(inputs.values()))
        return Served(
            model=spec.model.path,
            residents=tuple(group),
            num_parameters=base.num_parameters,
            load_s=load_s,
            base_bytes=base_bytes(base),
            adapter_bytes=bank.num_bytes(),
            checkpoint_bytes=checkpoint_bytes(base),
            adapter_disk_bytes=sum(resident.disk_bytes for resident in group),
            shape=tuple(main.shape),
            dtype=str(next(base.model.parameters()).dtype).removeprefix("torch."),
            not_mixed=bank.why_unmixed(mixture(bank.names, shape.batch)),
            agreement=check_answers(bank, inputs),
            switching=time_switches(bank, shape.rounds),
            passes=tuple(time_passes(bank, inputs, shape.rounds)),
            left_out={name: tensors for name, tensors in left_out.items() if tensors},
        )
    finally:
        bank.close()


def imported(folder: Path, spec: RunSpec, taken: Collection[str]) -> Resident:
    """An adapter from elsewhere, named like its folder.

    Args:
        spec: of the first run in the bank; its pooling where the folder has no head.json.

    Raises:
        HarnessError: a head.json that cannot be read.
    """
    name = folder.resolve().name
    pooling = saved_pooling(folder) or spec.model.pooling
    return Resident(
        name if name not in taken else str(folder), folder, _if_file(folder / "head.safetensors"), spec, pooling
    )


def _resident(run: RunPaths, run_id: str, spec: RunSpec) -> Resident:
    return Resident(run_id, run.adapter, _if_file(run.head), spec, spec.model.pooling)


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _best(table: Table) -> list[RunRecord]:
    """Of each configuration, at its chosen learning rate, the seed that is best on validation."""
    sign = 1 if table.lower_is_better else -1
    return [
        min(choice.cell.scored, key=lambda record: sign * ((record.metrics.validation or {}).get(table.metric) or 0.0))
        for choice in choose(table)
    ]


def _nothing(study: Study, records: Sequence[RunRecord], targets: Collection[str]) -> str:
    lead = f"Study {study.name!r} has no LoRA adapters to serve"
    if not any(record.status == "completed" for record in study.records):
        return f"{lead}: none of its {len(study.records)} runs is complete so far."
    there = sorted({record.run_spec().lora.targets for record in records} - {"none"})
    if targets and there:
        return f"{lead} with targets {', '.join(targets)}; there are {', '.join(there)}."
    return f"{lead}: its {len(records)} completed runs trained other methods, or their adapter folders are gone."
