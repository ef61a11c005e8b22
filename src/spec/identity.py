"""Identity of a run: a hash of its canonical JSON, less what cannot change the result."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from typing import Any, get_args

from src.spec.frozen import FrozenMap
from src.spec.hints import hints_of
from src.spec.methods import SIZE_UNIT, kin_of
from src.spec.run import LoraSpec, MethodSpec, ModelSpec, OptimSpec, RunSpec, TaskSpec, TrainerSpec

_NO_VALUE = object()
LONGEST = 40  # characters of lora.ranks in a slug
GROUPS: dict[str, Any] = {
    "model": ModelSpec,
    "task": TaskSpec,
    "method": MethodSpec,
    "lora": LoraSpec,
    "optim": OptimSpec,
    "trainer": TrainerSpec,
}


def to_dict(spec: Any) -> dict[str, Any]:
    """All fields of a spec dataclass, nested as in the config: plain dicts, texts, numbers and None."""
    return _plain(dataclasses.asdict(spec))


def run_spec_from_dict(values: dict[str, Any]) -> RunSpec:
    """Inverse of `to_dict` for RunSpec.

    Raises:
        TypeError: unknown or missing fields.
    """
    groups = {name: group(**_frozen(values[name])) for name, group in GROUPS.items()}
    return RunSpec(**{**values, **groups})


def canonical_json(spec: RunSpec) -> str:
    """The identity-bearing fields as JSON with sorted keys and no blanks."""
    return json.dumps(_identity_fields(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def run_id(spec: RunSpec) -> str:
    """Readable slug and ten hexadecimal digits of the SHA-256 of `canonical_json`."""
    digest = hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:10]
    return f"{slug(spec)}-{digest}"


def slug(spec: RunSpec) -> str:
    """What a person needs to recognise a cell: method, targets, rank, size or budget, alpha, lr, seed."""
    lora, method = spec.lora, spec.method
    names: list[str] = [] if method.name == "lora" else [method.name]
    sizes = [] if method.size is None else [f"{SIZE_UNIT.get(method.name, 'm')}{method.size}"]
    if lora.targets != "none":
        names += [*kin_of(lora), lora.targets, *([] if lora.stacks is None else [lora.stacks])]
        sizes = [*([] if lora.rank is None else [f"r{lora.rank}{_own_ranks(lora)}"]), *sizes, f"a{lora.alpha:g}"]
    budget = [] if lora.budget is None else [f"b{lora.budget}"]
    return "-".join([*(names or ["none"]), *budget, *sizes, f"lr{spec.optim.lr:g}", f"s{spec.seed}"])


def _own_ranks(lora: LoraSpec) -> str:
    """``+v=16+q.0-2=1``; a folder's name cannot hold a rank for each of many layers."""
    own = "".join(f"+{where.replace('/', '.')}={rank}" for where, rank in (lora.ranks or {}).items())
    return own if len(own) <= LONGEST else "+mixed"


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


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, dict) else value for name, value in values.items()}


def _frozen(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: FrozenMap({str(key): item for key, item in value.items()}) if isinstance(value, dict) else value
        for name, value in values.items()
    }


def _identity_fields(spec: Any) -> dict[str, Any]:
    kind: Any = type(spec)
    fields: dict[str, Any] = {}
    for name, default, is_number in _bearing(kind):
        value = getattr(spec, name)
        if value == default:
            continue
        if dataclasses.is_dataclass(value):
            value = _identity_fields(value)
        elif is_number and isinstance(value, int):
            value = float(value)  # 16 and 16.0 are equal, but not in JSON
        fields[name] = value
    return fields


@functools.cache
def _bearing(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Fields that bear on the identity: name, value at which they do not, and whether they hold a float."""
    hints = hints_of(kind)
    return tuple(
        (
            f.name,
            f.default if f.metadata.get("later") else _NO_VALUE,
            float in (hints[f.name], *get_args(hints[f.name])),
        )
        for f in dataclasses.fields(kind)
        if f.metadata.get("identity", True)
    )
