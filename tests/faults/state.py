"""What a crash may have left: everything under its final name is whole, and what has ended stays as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

from src.records import RunPaths, read_record
from tests.experiment.workplace import record_of, snapshot

ENDED = {"completed", "eliminated", "diverged"}
Files = dict[str, tuple[int, bytes]]


def check_whole(output: Path) -> None:
    """Read every file that stands under its final name, in every run and checkpoint."""
    for path in output.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(output).parts)
        if hidden or not path.is_file():
            continue
        if path.name == "record.json":
            read_record(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            load_file(path)
    for checkpoint in output.glob("*/runs/*/checkpoints/step-*"):
        assert {file.name for file in checkpoint.iterdir()} == {"state.json", "state.safetensors"}


def ended(runs: Sequence[RunPaths]) -> dict[str, Files]:
    """Records and what was trained of the cells that have ended, with the times of their last change."""
    done = [run for run in runs if run.record.exists() and record_of(run)["status"] in ENDED]
    return {run.root.name: _kept(run) for run in done}


def _kept(run: RunPaths) -> Files:
    names = ("record.json", "adapter/", "head.safetensors", "predictions.safetensors")
    return {name: value for name, value in snapshot(run.root).items() if name.startswith(names)}


def costs(runs: Sequence[RunPaths]) -> list[tuple[int, int]]:
    """Tokens trained on and bytes saved: what a part trained twice, or a file left behind, would raise."""
    records = [record_of(run) for run in runs]
    return [(record["time"]["tokens"], record["memory"]["checkpoint_bytes"]) for record in records]


def leftovers(runs: Sequence[RunPaths]) -> list[str]:
    """Half-written files and checkpoints in runs."""
    paths = (path for run in runs for path in run.root.rglob("*"))
    return [str(path) for path in paths if path.suffix == ".tmp" or path.name == "checkpoints"]
