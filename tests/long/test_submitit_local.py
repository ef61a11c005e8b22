"""Many cells through Hydra's own submitit_local, a process for each: what started them stays as small as it was.

LORA_SWEEP_LONG_JOBS cells (default 500; 40 at least to say something).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiment.workplace import build
from tests.long.flat import WARM, Held, growing, slopes

ROOT = Path(__file__).parents[2]
JOBS = int(os.environ.get("LORA_SWEEP_LONG_JOBS", "500"))
SHORT = [
    "task.kind=classification", "task.test_split=null", "task.max_length=16",
    "task.validation_size=12", "task.test_size=12",
    "trainer.max_steps=2", "trainer.batch_size=8", "trainer.dtype=float32", "tracking=none",
]  # fmt: skip


def watch(process: subprocess.Popen[bytes], output: Path) -> dict[int, Held]:
    """What a process holds, by the number of records that there are by then; the last look at each number counts."""
    seen: dict[int, Held] = {}
    while process.poll() is None:
        held = Held.now([process.pid])
        if held.handles:
            seen[len(list(output.glob("*/runs/*/record.json")))] = held
        time.sleep(0.1)
    return seen


@pytest.mark.slow
def test_what_starts_many_jobs_stays_flat(
    tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    place, output = build(tmp_path), tmp_path / "outputs"
    command = [
        sys.executable, "-m", "src.train", "-m", "hydra/launcher=submitit_local",
        f"seed=range({JOBS})", f"model.path={place.model}",
        f"task.path={place.data}", f"output_dir={output}", f"cache_dir={place.cache}", "study=many", *SHORT,
    ]  # fmt: skip
    said = tmp_path / "said"
    with said.open("w") as stream, subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream) as process:
        seen = watch(process, output)
    assert process.returncode == 0, said.read_text()
    assert len(list(output.glob("many/runs/*/record.json"))) == JOBS
    # Of two jobs that end at once only the second was seen.
    after = [seen[min(known for known in seen if known >= count)] for count in range(WARM, JOBS + 1)]
    for name, slope in slopes(after, warm=0).items():
        record_testsuite_property(name, slope)
    assert growing(after, warm=0) == {}
