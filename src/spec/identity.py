"""Identity of a run: a hash of its canonical JSON, less what cannot change the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any, get_args, get_type_hints

from src.spec.run import LoraSpec, ModelSpec, OptimSpec, RunSpec, TaskSpec, TrainerSpec

GROUPS: dict[str, Any] = {
    "model": ModelSpec,
    "task": TaskSpec,
    "lora": LoraSpec,
    "optim": OptimSpec,
    "trainer": TrainerSpec,
}


def to_dict(spec: Any) -> dict[str, Any]:
    """All fields of a spec dataclass, nested as in the config."""
    return dataclasses.asdict(spec)


def run_spec_from_dict(values: dict[str, Any]) -> RunSpec:
    """Inverse of `to_dict` for RunSpec.

    Raises:
        TypeError: unknown or missing fields.
    """
    groups = {name: group(**values[name]) for name, group in GROUPS.items()}
    return RunSpec(**{**values, **groups})


def canonical_json(spec: RunSpec) -> str:
    """The identity-bearing fields as JSON with sorted keys and no blanks."""
    return json.dumps(_identity_fields(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def run_id(spec: RunSpec) -> str:
    """Readable slug and ten hexadecimal digits of the SHA-256 of `canonical_json`."""
    digest = hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:10]
    return f"{slug(spec)}-{digest}"


def slug(spec: RunSpec) -> str:
    """What a person needs to recognise a cell: targets, rank or budget, alpha, lr, seed."""
    lora = spec.lora
    size = f"b{lora.budget}" if lora.rank is None else f"r{lora.rank}"
    shape = [lora.targets] if lora.targets == "none" else [lora.targets, size, f"a{lora.alpha:g}"]
    return "-".join([*shape, f"lr{spec.optim.lr:g}", f"s{spec.seed}"])


def source_name(path: str) -> str:
    """Short name of a model or data path: ``asset:r52`` is ``r52``, ``/data/my.csv`` is ``my``."""
    last = path.removeprefix("asset:").rstrip("/").rsplit("/", maxsplit=1)[-1]
    for suffix in (".csv", ".tsv", ".jsonl", ".json", ".parquet"):
        last = last.removesuffix(suffix)
    return last


def default_study(spec: RunSpec) -> str:
    """``<model>-<task>``, where a task with a subset is named by the subset; blanks and the like become ``_``."""
    name = f"{source_name(spec.model.path)}-{spec.task.subset or source_name(spec.task.path)}"
    return re.sub(r"[^\w.+=-]", "_", name)


def _identity_fields(spec: Any) -> dict[str, Any]:
    hints, fields = get_type_hints(type(spec)), {}
    for f in dataclasses.fields(spec):
        value, hint = getattr(spec, f.name), hints[f.name]
        if not f.metadata.get("identity", True):
            continue
        if dataclasses.is_dataclass(value):
            value = _identity_fields(value)
        elif isinstance(value, int) and float in (hint, *get_args(hint)):
            value = float(value)  # 16 and 16.0 are equal, but not in JSON
        fields[f.name] = value
    return fields
