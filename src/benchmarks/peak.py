"""Peak memory of a few training steps, in a process of their own: ``python -m src.benchmarks.peak < job.json``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from src.benchmarks.processes import ask
from src.spec import RunSpec, run_spec_from_dict, to_dict

STEPS = 3


@dataclasses.dataclass(frozen=True)
class Peak:
    """Bytes; None where the system does not say.

    Attributes:
        before: held when the steps began: weights, libraries, and on CPUs all else of the process.
        most: at the peak of the steps.
    """

    before: int | None
    most: int | None

    @property
    def added(self) -> int | None:
        """By the steps."""
        return None if self.before is None or self.most is None else self.most - self.before


def peak_of(side: str, spec: RunSpec, device: str, cache_dir: str, length: int) -> Peak:
    """Run one side's steps in a new process.

    Args:
        side: ours or peft.
        spec: with the batch size, and dtype as resolved.
        length: tokens of each row.

    Raises:
        HarnessError: the process failed; with what it said last.
    """
    folder = str(Path(cache_dir).expanduser().absolute())
    job = {"side": side, "spec": to_dict(spec), "device": device, "cache_dir": folder, "length": length}
    what = f"measures the peak memory of {side}"
    return Peak(**ask("src.benchmarks.peak", what=what, given=json.dumps(job)))


def measure(job: dict[str, Any]) -> Peak:
    """What `peak_of` asks the new process to do.

    Raises:
        ValueError: an unknown side.
    """
    if job["side"] not in {"ours", "peft"}:
        raise ValueError(f"{job['side']} is neither ours nor peft")
    from src.benchmarks.peer_adapters import peft_side  # noqa: PLC0415 - torch comes with it
    from src.benchmarks.workbench import prepare  # noqa: PLC0415
    from src.experiment.environment import peak_memory, reset_peak_memory  # noqa: PLC0415
    from src.experiment.resources import Resources  # noqa: PLC0415

    spec = run_spec_from_dict(job["spec"])
    resources = Resources(job["device"], Path(job["cache_dir"]))
    bench = prepare(spec, resources, spec.trainer.batch_size, job["length"], 1)
    if job["side"] == "ours":
        step = bench.ours().step
    else:
        step = peft_side(bench.base, bench.setup, bench.batches[0], bench.num_labels).step
    reset_peak_memory(resources.device)
    before = peak_memory(resources.device)
    for _ in range(STEPS):
        step()
    return Peak(before, peak_memory(resources.device))


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(measure(json.load(sys.stdin)))))
