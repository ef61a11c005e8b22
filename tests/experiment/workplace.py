"""A tiny model, tiny data and a cache on disk, and specs and settings for studies of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.experiment.resolve import resolve_cells
from src.records import RunPaths, StudyPaths
from src.spec import (
    TEXT_KINDS,
    LoraSpec,
    ModelSpec,
    OptimSpec,
    RunSpec,
    Settings,
    TaskKind,
    TaskSpec,
    TrackingSpec,
    TrainerSpec,
    normalise,
)
from tests.tiny_files import save_model, write_csv

STUDY = "tiny"
_GROUPS = {"lora": LoraSpec, "optim": OptimSpec, "trainer": TrainerSpec, "task": TaskSpec}


@dataclass(frozen=True)
class Workplace:
    """Folders that every study of a test can share; each study has an output folder of its own."""

    model: Path
    data: Path
    cache: Path
    kind: TaskKind = "classification"

    def spec(self, targets: str = "qv", rank: int | None = 2, *, seed: int = 0, **changes: Any) -> RunSpec:
        """Twelve steps of a tiny run; `changes` are fields of the task's, LoRA's, optimiser's or trainer's spec."""
        metric = {"classification": "accuracy", "regression": "mse"}.get(self.kind, "loss")
        templates = {"prompt": "{text}", "completion": " {label}"} if self.kind in TEXT_KINDS else {}
        values: dict[str, dict[str, Any]] = {
            "task": {"path": str(self.data), "kind": self.kind, "test_split": None, "max_length": 16, "metric": metric,
                     "validation_size": 12, "test_size": 12, **templates},
            "lora": {"targets": targets, "rank": None if targets == "none" else rank, "budget": None, "alpha": 8.0},
            "optim": {"lr": 1e-2, "head_lr": 1e-2},
            "trainer": {"max_steps": 12, "batch_size": 8, "eval_every": 6, "checkpoint_every": 4, "dtype": "float32"},
        }  # fmt: skip
        for name, value in changes.items():
            (group,) = (g for g, kind in _GROUPS.items() if name in {f.name for f in dataclasses.fields(kind)})
            values[group][name] = value
        groups = {name: kind(**values[name]) for name, kind in _GROUPS.items()}
        return normalise(RunSpec(ModelSpec(str(self.model)), **groups, seed=seed))

    def settings(self, output_dir: Path, **changes: Any) -> Settings:
        """Untracked, on the CPU, in packs of at most 8."""
        plain: dict[str, Any] = {
            "device": "cpu", "tracking": TrackingSpec("none"), "study": STUDY, "pack": 8, **changes,
        }  # fmt: skip
        return Settings(output_dir=str(output_dir), cache_dir=str(self.cache), **plain)

    def runs(self, specs: Sequence[RunSpec], output_dir: Path) -> list[RunPaths]:
        """Where the cells' files lie."""
        paths = StudyPaths.of(output_dir, STUDY)
        return [paths.run(cell.run_id) for cell in resolve_cells(specs, self.cache)]


def build(root: Path, model_type: str = "bert", kind: TaskKind = "classification") -> Workplace:
    """Make the model and the data."""
    model = save_model(root / "model", model_type, causal_lm=kind == "causal_lm", seq2seq=kind == "seq2seq")
    labels = ("1.0", "2.0", "4.0") if kind == "regression" else ("red", "green", "blue")
    return Workplace(model, write_csv(root / "data.csv", labels=labels), root / "cache", kind)


def record_of(run: RunPaths) -> dict[str, Any]:
    """The record as any other program would read it."""
    return json.loads(run.record.read_text())


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of the last change and content of every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def results(runs: Sequence[RunPaths]) -> list[tuple[Any, dict[str, bytes]]]:
    """What must not depend on how a run came to its end: metrics, and the bytes of adapter, head and predictions."""
    return [
        (
            [record_of(run)[key] for key in ("status", "metrics", "best_epoch", "params")],
            {name: content for name, (_, content) in snapshot(run.root).items() if name.endswith(".safetensors")},
        )
        for run in runs
    ]
