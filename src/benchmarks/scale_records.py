"""What the report of a study of any size costs in time and memory.

    python -m src.benchmarks.scale_records outputs/simulated

measures one study in this process and prints JSON; `report_scale` starts it for each size.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from src.benchmarks.processes import ask
from src.benchmarks.simulated import write_records
from src.records import StudyPaths, read_study
from src.reporting import write_report
from src.spec import Settings


def report_scale(
    sizes: Sequence[int], folder: Path, *, seeds: int = 5, examples: int = 1000
) -> list[dict[str, float | int]]:
    """What `python -m src.report` does, by number of runs; each in a process of its own, so that peaks are separate.

    Args:
        folder: where the studies are written, one for each size; those that are there are used again.

    Returns:
        For each size: cells; read_s (records), report_s (tables, statistics, figures, page), print_s (the terminal's
        table) and total_s, without Python's start; cpu_s, how much of it the processor worked; peak_bytes, resident
        memory of the process; page_bytes.

    Raises:
        HarnessError: a study cannot be written, or its report fails.
    """
    rows = []
    for size in sizes:
        paths = StudyPaths.of(folder, f"scale-{size}-{seeds}-{examples}")
        if not paths.plan.exists():
            write_records(paths, size, seeds=seeds, examples=examples)
        root = str(paths.root.absolute())
        rows.append({"cells": size, **ask("src.benchmarks.scale_records", [root], what=f"reports {paths.root}")})
    return rows


def measure_report(paths: StudyPaths) -> dict[str, float | int]:
    """Seconds and peak memory of a study's report, in this process."""
    from src.experiment.display.console import print_table  # noqa: PLC0415 - its weight is part of what is measured

    start, used = time.perf_counter(), time.process_time()
    study = read_study(paths)
    read = time.perf_counter()
    tables, sentences = write_report(study, paths, Settings.within)
    reported = time.perf_counter()
    with redirect_stdout(io.StringIO()):
        print_table(tables, sentences, paths)
    printed = time.perf_counter()
    return {
        "read_s": read - start,
        "report_s": reported - read,
        "print_s": printed - reported,
        "total_s": printed - start,
        "cpu_s": time.process_time() - used,
        "peak_bytes": peak_bytes(),
        "page_bytes": paths.page.stat().st_size,
    }


def peak_bytes() -> int:
    """Resident memory of this process at its peak.

    getrusage also counts what the process that started this one held, so it is only asked where there is no /proc.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what the report of one study costs, as JSON."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    print(json.dumps(measure_report(StudyPaths(Path(folder)))))


if __name__ == "__main__":
    main()
