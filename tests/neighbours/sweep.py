"""A sweep of tiny cells that differ by seed, as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.experiment.workplace import Workplace

ROOT = Path(__file__).resolve().parents[2]
STUDY = "seeds"


def arguments(place: Workplace, output: Path, seeds: int, *more: str) -> list[str]:
    """Of ``python -m src.train``: 6 steps of each cell."""
    return [
        "-m", f"seed=range({seeds})", f"model.path={place.model}", "task=own", f"task.path={place.data}",
        "task.test_split=null", "task.max_length=16", "task.train_size=null", "task.validation_size=12",
        "task.test_size=12", "lora.rank=2", "lora.dropout=0", "trainer.max_steps=6", "trainer.batch_size=8",
        "trainer.eval_every=3", "trainer.checkpoint_every=2", "trainer.dtype=float32", "tracking=none", "device=cpu",
        f"study={STUDY}", f"output_dir={output}", f"cache_dir={place.cache}", *more,
    ]  # fmt: skip


def start(faults: dict[int, str], command: list[str]) -> subprocess.Popen[str]:
    """The command, with faults in the cells of some seeds."""
    module = ["-m", "tests.neighbours.front", json.dumps(faults)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *module, *command],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def records(output: Path) -> dict[int, dict[str, Any]]:
    """By seed."""
    found = [json.loads(path.read_text()) for path in output.glob(f"{STUDY}/runs/*/record.json")]
    return {record["spec"]["seed"]: record for record in found}


def tensors(output: Path) -> dict[str, bytes]:
    """Adapters, heads and predictions by run and name."""
    runs = output / STUDY / "runs"
    return {str(path.relative_to(runs)): path.read_bytes() for path in sorted(runs.rglob("*.safetensors"))}
