"""The heavy things, loaded once for a study: frozen bases, tokenised texts and resized pictures."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path
from typing import Any

import torch

from src.data import TaskData
from src.models.hardware import Attention, choose_attention, keep_freed_memory, resolve_device, resolve_dtype
from src.models.loading import Base, load_base, load_tokenizer
from src.models.preprocessing import load_data
from src.spec import ModelSpec, RunSpec, TaskKind, TaskSpec
from src.spec.run import DType

logger = logging.getLogger(__name__)


class Resources:
    """Loads on first use; keeps all data, which are small, and the base that was used last.

    Attributes:
        device: where everything trains.
    """

    def __init__(self, device: str, cache_dir: Path) -> None:
        self.device, self.cache_dir = resolve_device(device), cache_dir
        if self.device.type == "cpu":
            keep_freed_memory()
        self._bases = functools.lru_cache(maxsize=1)(self._load_base)
        self._tasks = functools.cache(self._load_task)

    def dtype(self, requested: DType) -> torch.dtype:
        """The base's precision on this device."""
        return resolve_dtype(requested, self.device)

    def base(self, spec: RunSpec) -> Base:
        """The frozen model of a run."""
        attention = choose_attention(self.device, self.dtype(spec.trainer.dtype), spec.task.max_length)
        return self._bases(spec.model, spec.task.kind, spec.trainer.dtype, attention)

    def data(self, spec: RunSpec) -> TaskData:
        """The tokenised (or resized) data of a run."""
        return self._tasks(spec.model, spec.task)

    def tokenizer(self, spec: RunSpec) -> Any:
        """The tokenizer of a run's model, to read what the model writes."""
        return load_tokenizer(spec.model, self.cache_dir)

    def _load_base(self, model: ModelSpec, kind: TaskKind, dtype: DType, attention: Attention) -> Base:
        started = time.perf_counter()
        self._bases.cache_clear()  # before the next one is loaded, so that there are never two in memory
        base = load_base(model, kind, self.cache_dir, device=self.device, dtype=self.dtype(dtype), attention=attention)
        logger.info("Loaded %s (%s parameters) in %.1f s", model.path, f"{base.num_parameters:,}", _since(started))
        return base

    def _load_task(self, model: ModelSpec, task: TaskSpec) -> TaskData:
        started = time.perf_counter()
        data = load_data(model, task, self.cache_dir)
        sizes = f"{len(data.train)} train, {len(data.validation)} validation, {len(data.test)} test examples"
        incomplete = sum(part.get("incomplete", 0) for part in data.report["splits"].values())
        left_out = f"; {incomplete} rows without text or label left out" if incomplete else ""
        logger.info("Loaded %s (%s%s) in %.1f s", task.path, sizes, left_out, _since(started))
        return data


def _since(started: float) -> float:
    return time.perf_counter() - started
