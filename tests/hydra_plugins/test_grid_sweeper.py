"""The default sweeper: whatever the launcher, a wrong cell is told before any starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("choice", "values", "said"),
    [
        ("hydra/launcher=basic", "0,abc", "lora.rank is 'abc'; allowed: a whole number, or null."),
        ("hydra/launcher=lanes", "0,abc", "lora.rank is 'abc'; allowed: a whole number, or null."),
        (
            "hydra.sweeper.max_batch_size=2",
            "1,2",
            "hydra.sweeper.max_batch_size is 2; allowed: null, as these cells train",
        ),
        (
            "hydra/launcher=basic hydra.sweeper.max_batch_size=-1",
            "1,2",
            "hydra.sweeper.max_batch_size is -1; allowed: a whole number of at least 1, or null.",
        ),
        (
            "hydra/launcher=basic hydra.sweeper.max_batch_size=1",
            "1,0",
            "Nothing was started: 1 of 2 cells cannot be run.",
        ),
        ("hydra/sweeper=basic", "0,-1", "Nothing was started: 2 of 2 cells cannot be run."),
    ],
)
def test_wrong_cells_stop_a_sweep_before_it_starts(choice: str, values: str, said: str, tmp_path: Path) -> None:
    """Rank 0 would fail when its turn comes, with exit code 1."""
    command = [
        sys.executable,
        "-m",
        "src.train",
        "-m",
        *choice.split(),
        f"lora.rank={values}",
        f"output_dir={tmp_path}",
    ]
    result = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].startswith(said)
    assert "Starting" not in result.stderr
