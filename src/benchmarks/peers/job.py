"""What a peer's process is given, and what it gives back: plain files, so that it needs nothing of the harness."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class PeerCell:
    """One cell in peft's words.

    Attributes:
        modules: full names of what is adapted, within the backbone.
        lr: peak learning rate of the adapters.
    """

    name: str
    modules: tuple[str, ...]
    rank: int
    alpha: float
    dropout: float
    lr: float


@dataclass(frozen=True)
class Job:
    """A sweep over one model and one task of single texts in classes.

    Attributes:
        model: path or id that plain transformers loads.
        tokens: a file of `write_tokens`: ids are handed over ready-made, which spares the peer its tokenisation.
        optim, trainer: the fields of OptimSpec and TrainerSpec.
        steps: optimiser steps of a cell.
        device: where peft's own loop runs; the Trainer chooses by itself.
    """

    model: str
    pooling: str
    tokens: str
    pad_id: int
    num_labels: int
    optim: Mapping[str, Any]
    trainer: Mapping[str, Any]
    steps: int
    seed: int
    device: str
    cells: tuple[PeerCell, ...]


@dataclass(frozen=True)
class Examples:
    """A split: example i is ids[offsets[i] : offsets[i + 1]], of class labels[i]."""

    ids: Tensor
    offsets: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PeerResult:
    """What a cell came to.

    Attributes:
        tokens: trained on, without padding.
        adapter, head: trained parameters.
        train_s: seconds of its training and evaluations, without the process's start.
    """

    name: str
    validation: float
    test: float
    tokens: int
    adapter: int
    head: int
    train_s: float


def write_job(job: Job, file: Path) -> None:
    """Write it as JSON."""
    file.write_text(json.dumps(asdict(job)))


def read_job(file: Path) -> Job:
    """Inverse of `write_job`."""
    values = json.loads(file.read_text())
    cells = tuple(PeerCell(**{**cell, "modules": tuple(cell["modules"])}) for cell in values.pop("cells"))
    return Job(**values, cells=cells)


def write_results(results: Sequence[PeerResult], file: Path, **more: Any) -> None:
    """Write them as JSON, with further values beside them."""
    file.write_text(json.dumps({"cells": [asdict(result) for result in results], **more}))


def read_results(file: Path) -> list[PeerResult]:
    """The cells of `write_results`."""
    return [PeerResult(**cell) for cell in json.loads(file.read_text())["cells"]]


def write_tokens(splits: Mapping[str, Examples], file: Path) -> None:
    """Write the three splits as one safetensors file."""
    tensors = {f"{role}.{name}": value for role, split in splits.items() for name, value in vars(split).items()}
    save_file(tensors, file)


def read_tokens(file: str) -> dict[str, Examples]:
    """Inverse of `write_tokens`."""
    tensors = load_file(file)
    return {role: Examples(*(tensors[f"{role}.{name}"] for name in ("ids", "offsets", "labels"))) for role in SPLITS}


def num_trained(model: torch.nn.Module) -> tuple[int, int]:
    """Trained parameters of adapters and of the head."""
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    adapter = sum(size for name, size in sizes.items() if "lora_" in name)
    return adapter, sum(sizes.values()) - adapter
