"""A request for the sweep and start benchmarks on a tiny model, tokenizer and data on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from src.benchmarks.request import Request
from src.spec import LoraSpec, ModelSpec, OptimSpec, RunSpec, Settings, TaskSpec, TrackingSpec, TrainerSpec, normalise
from tests.tiny_files import save_model, write_csv

STEPS = 6
OPTIONS: dict[str, Any] = {
    "rounds": 1,
    "ranks": (1, 3),
    "targets": ("qv", "o"),
    "lr": (),
    "rows": ("ours",),
    "cells": 2,
}


def make_request(folder: Path, *, model_type: str = "bert", **options: Any) -> Request:
    """Four cells of one epoch; files are made where they are absent."""
    if not (folder / "model").exists():
        save_model(folder / "model", model_type)
        write_csv(folder / "rows.csv", 76)
    task = TaskSpec(
        str(folder / "rows.csv"), "classification", text="text", label="label", test_split=None, max_length=16,
        validation_size=14, test_size=14,
    )  # fmt: skip
    trainer = TrainerSpec(epochs=1, batch_size=8, dtype="float32")
    optim = OptimSpec(lr=1e-2, head_lr=3e-2, warmup=0.2)
    lora = LoraSpec("qv", rank=2, budget=None, alpha=8.0)
    spec = normalise(RunSpec(ModelSpec(str(folder / "model")), task, lora, optim, trainer))
    settings = Settings(
        output_dir=str(folder / "out"), cache_dir=str(folder / "cache"), device="cpu", study="bench",
        tracking=TrackingSpec("none"),
    )  # fmt: skip
    return Request("sweep", spec, settings, {**OPTIONS, **options}, (), "python -m src.bench sweep")
