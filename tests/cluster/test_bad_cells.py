"""Bad cells in tasks of a SLURM: those fail, each with its cause on disk; the others are as if there were none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.commands import ROOT, Cluster
from tests.neighbours.sweep import STUDY, arguments, records
from tests.neighbours.test_bad_cells import BAD, CAUSES

BY_SEED = {str(seed): fault for seed, fault in BAD.items()}
# Python runs it at its start; faults are only for the tasks.
PLANT = f"""
import sys
if "submitit.core._submit" in sys.orig_argv:
    from src.cluster import task
    from tests.neighbours.faults import plant_in_children
    plant_in_children(task, {BY_SEED!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("pack", [1, 8])
def test_of_20_cells_5_bad_ones_fail_and_15_finish(cluster: Cluster, tmp_path: Path, pack: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(PLANT)
    more = (f"pack={pack}", "hydra/launcher=slurm", "slurm.cpus=1", "slurm.memory=1")
    result = subprocess.run(
        [sys.executable, "-m", "src.train", *arguments(cluster.place, cluster.output, 20, *more)],
        cwd=ROOT,
        env=cluster.environment | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert result.returncode == 1, result.stderr
    found = records(cluster.output)
    assert len(found) == 20
    assert {seed: record["error"]["type"] for seed, record in found.items() if record["error"]} == CAUSES
    assert all(record["status"] == "completed" for seed, record in found.items() if seed not in BAD)
    assert f"5 of 20 cells of the study {STUDY} did not complete" in result.stderr
