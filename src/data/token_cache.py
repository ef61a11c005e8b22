"""Tokenised splits on disk: one safetensors file for each key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from src.data.files import write_atomically

Tensors = dict[str, torch.Tensor]
Counts = dict[str, int]


def flat(examples: Sequence[Sequence[int]]) -> Tensors:
    """Lists of ids end to end, as TokenSplit keeps them: input_ids and offsets."""
    offsets = torch.tensor([0, *accumulate(map(len, examples))])
    return {"input_ids": torch.tensor(list(chain.from_iterable(examples)), dtype=torch.int32), "offsets": offsets}


def read_tokens(path: Path) -> tuple[Tensors, Counts] | None:
    """Tensors and counts, or None where the file is absent or damaged (it is then to be made again)."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        counts = {str(name): int(count) for name, count in json.loads(metadata["counts"]).items()}
        return (tensors, counts) if metadata["sha256"] == digest(tensors) else None
    except (SafetensorError, OSError, KeyError, ValueError):
        return None


def write_tokens(path: Path, tensors: Tensors, counts: Counts) -> None:
    """Raises:
    HarnessError: the cache cannot be written.
    """
    write_atomically(path, save(tensors, {"counts": json.dumps(counts), "sha256": digest(tensors)}))


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        whole.update(tensors[name].contiguous().numpy().data)
    return whole.hexdigest()
