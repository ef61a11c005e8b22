"""Whether what a long-lived process holds stays flat, and a probe that says what it holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

# Per cell; a leak of 100 kB, of one handle or one thread a cell is to be found.
MOST = {"memory": 75_000.0, "handles": 0.5, "threads": 0.5}
# Cells before which caches, pools and lazily loaded modules are still filling.
WARM = 10


@dataclass(frozen=True)
class Held:
    """What processes hold together: resident memory in bytes, open file handles, threads."""

    memory: int
    handles: int
    threads: int

    @classmethod
    def now(cls, pids: Sequence[int]) -> Held:
        """Of living processes; one that has ended holds nothing."""
        return cls(*(sum(values) for values in zip(*map(_of, pids), strict=True)))


def slopes(seen: Sequence[Held], warm: int = WARM) -> dict[str, float]:
    """Growth for each cell after the first `warm` ones.

    Theil and Sen's estimate (Sen 1968): the median over pairs of the growth between them, which single high readings
    do not move. Pairs lie at least half of the cells apart, so that what repeats with every pack cancels out.
    """
    kept = seen[warm:]
    apart = max(1, len(kept) // 2)
    pairs = [(first, second) for first in range(len(kept)) for second in range(first + apart, len(kept))]
    return {
        name: median(
            (getattr(kept[second], name) - getattr(kept[first], name)) / (second - first) for first, second in pairs
        )
        for name in MOST
    }


def growing(seen: Sequence[Held], warm: int = WARM, memory: float = MOST["memory"]) -> dict[str, float]:
    """What grows by more than MOST for each cell, and by how much; empty where all is flat.

    Args:
        memory: bytes for each cell that are still flat, where there are few cells: between packs memory goes up and
            down by 3 MB, and now and then Python enlarges its table of interned strings by 8 MB at once.
    """
    return {name: slope for name, slope in slopes(seen, warm).items() if slope > {**MOST, "memory": memory}[name]}


def _of(pid: int) -> tuple[int, int, int]:
    process = Path("/proc") / str(pid)
    try:
        pages = int((process / "statm").read_text().split()[1])
        return (
            pages * os.sysconf("SC_PAGE_SIZE"),
            len(list((process / "fd").iterdir())),
            len(list((process / "task").iterdir())),
        )
    except OSError:
        return 0, 0, 0


def descendants(pid: int) -> list[int]:
    """A process and all that it started and that is still alive."""
    found = [pid]
    for parent in found:
        for task in (Path("/proc") / str(parent) / "task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found
