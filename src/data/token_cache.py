"""Tokenised splits on disk: one safetensors file for each key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

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
        return (tensors, counts) if metadata["sha256"] == digest(tensors) and is_sound(tensors) else None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def is_sound(tensors: Mapping[str, Any]) -> bool:
    """Whether offsets, where there are some, cut their ids into examples: a digest says nothing of who wrote a file."""
    for ids, name in (("input_ids", "offsets"), ("target_ids", "target_offsets")):
        tokens, offsets = tensors.get(ids), tensors.get(name)
        if tokens is None or offsets is None:
            continue
        if tokens.dim() != 1 or offsets.dim() != 1 or len(offsets) < 2 or (tokens < 0).any():
            return False
        if offsets[0] != 0 or offsets[-1] != len(tokens) or (offsets.diff() < 0).any():
            return False
    return True


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
