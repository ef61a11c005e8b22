"""Whole tasks on disk, ready for training: a second start neither reads, splits, compares nor tokenises documents.

Kept under a hash of all that decides them: the task's fields, the contents of its source, what tokenises it, the code
that prepares it and the libraries that this code calls. Not kept are pictures, which have caches of their own, and data
sets of a hub, which can change under their name.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import tokenizers
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from src.assets import ASSETS, is_asset
from src.assets.fetch import PREFIX
from src.data.files import write_atomically
from src.data.pydoc import pydoc_file
from src.data.rows import ROLES
from src.data.sources import BUILDERS
from src.data.task import TaskData
from src.data.token_cache import digest, is_sound
from src.data.tokens import TokenSplit
from src.spec import TaskSpec, to_dict

FIELDS = tuple(field.name for field in dataclasses.fields(TokenSplit))
PLAIN = ("label_names", "num_labels", "pad_id", "report", "test_completions")  # of TaskData, besides its splits


def cached_task(spec: TaskSpec, made_by: str, cache_dir: Path) -> Path | None:
    """Where a task is kept, or is to be kept; None for one that is not.

    Args:
        made_by: SHA-256 of what tokenises the task.

    Raises:
        HarnessError: pydoc's documents have to be made first and cannot.
    """
    source = _source(spec, cache_dir)
    if spec.image is not None or source is None:
        return None
    libraries = [library.__version__ for library in (datasets, pd, tokenizers, transformers, torch)]
    parts = [to_dict(spec), source, made_by, _code(), libraries]
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache_dir / "tasks" / f"{name}.safetensors"


def read_task(path: Path, spec: TaskSpec) -> TaskData | None:
    """The task, or None where the file is absent or damaged (it is then to be made again)."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if metadata["sha256"] != _digest(tensors, metadata["plain"]):
            return None
        plain = json.loads(metadata["plain"])
        splits = {role: _split(tensors, role) for role in ROLES}
        for name in ("label_names", "test_completions"):
            plain[name] = None if plain[name] is None else tuple(plain[name])
        return TaskData(spec, splits["train"], splits["validation"], splits["test"], **plain)
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def write_task(path: Path, data: TaskData) -> None:
    """Raises:
    HarnessError: the cache cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    for role in ROLES:
        values = ((name, getattr(getattr(data, role), name)) for name in FIELDS)
        tensors |= {f"{role}.{name}": value for name, value in values if value is not None}
    plain = json.dumps({name: getattr(data, name) for name in PLAIN})
    write_atomically(path, save(tensors, {"plain": plain, "sha256": _digest(tensors, plain)}))


def digest_of_files(files: Iterable[Path]) -> str:
    """SHA-256 of names and contents."""
    whole = hashlib.sha256()
    for file in sorted(files):
        with file.open("rb") as stream:
            whole.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _split(tensors: dict[str, torch.Tensor], role: str) -> TokenSplit:
    values: dict[str, Any] = {name: tensors.get(f"{role}.{name}") for name in FIELDS}
    if values["input_ids"] is None or values["offsets"] is None:
        raise KeyError(role)
    if not is_sound(values):
        raise ValueError(f"the offsets of {role} do not cut its tokens into examples")
    return TokenSplit(**values)


def _source(spec: TaskSpec, cache_dir: Path) -> str | None:
    """What stands for the contents of a task's source."""
    if is_asset(spec.path):
        asset = ASSETS.get(spec.path.removeprefix(PREFIX))
        return None if asset is None else f"{PREFIX}{asset.folder}"
    if spec.path == "pydoc":
        return digest_of_files([pydoc_file(cache_dir)])
    files = [Path(path).expanduser() for path in (spec.path, spec.test_path) if path is not None]
    if all(file.is_file() and file.suffix.lower() in BUILDERS for file in files):
        return " ".join(digest_of_files([file]) for file in files)
    return None


@functools.cache
def _code() -> str:
    """Of the modules that prepare data."""
    return digest_of_files(Path(__file__).parent.glob("*.py"))


def _digest(tensors: dict[str, torch.Tensor], plain: str) -> str:
    return hashlib.sha256(f"{digest(tensors)} {plain}".encode()).hexdigest()
