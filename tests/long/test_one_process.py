"""A sweep of many cells holds no more memory, handles and threads after the last cell than after the tenth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.long.flat import Held, growing

ROOT = Path(__file__).parents[2]
FEW = 600_000  # bytes for each of forty cells
CELLS = int(os.environ.get("LORA_SWEEP_LONG_CELLS", "500"))


def sweep(folder: Path, num_cells: int, tracking: str, leak: str = "") -> tuple[list[Held], list[Held]]:
    """What a process of its own held after each cell, and what wandb's service did."""
    command = [
        sys.executable,
        "-m",
        "tests.long.one_process",
        str(folder),
        str(num_cells),
        tracking,
        *([leak] if leak else []),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    own, service = ([Held(**values) for values in seen[name]] for name in ("own", "service"))
    assert len(own) == len(service) == num_cells
    return own, service


@pytest.mark.parametrize("tracking", ["none", "offline"])
@pytest.mark.slow
def test_a_long_sweep_stays_flat(tmp_path: Path, tracking: str) -> None:
    own, service = sweep(tmp_path, CELLS, tracking)
    assert growing(own) == {}
    assert growing(service) == {}


@pytest.mark.parametrize("leak", ["memory", "handles"])
@pytest.mark.slow
def test_a_leak_in_every_cell_is_found(tmp_path: Path, leak: str) -> None:
    own, _ = sweep(tmp_path, 200, "none", leak)
    assert list(growing(own)) == [leak]


def test_a_sweep_of_forty_cells_stays_flat_and_a_leak_would_show(tmp_path: Path) -> None:
    own, service = sweep(tmp_path, 40, "offline")
    # Kernels that are kept for every shape, say, took 4 MB a cell. The slow tests find 100 kB.
    assert growing(own, memory=FEW) == {}
    assert growing(service, memory=FEW) == {}
    leaky = [Held(held.memory + 2 * FEW * cell, held.handles + cell, held.threads) for cell, held in enumerate(own)]
    assert list(growing(leaky, memory=FEW)) == ["memory", "handles"]
