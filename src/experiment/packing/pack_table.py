"""How fast packs of several sizes train, and what follows from it: how many cells to train together.

What is measured is written to <cache_dir>/packs/<key>.json, so that the next sweep of this kind on this device need not
measure, and trains in the packs of before: in bfloat16 the size of a pack changes what is rounded.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.errors import WriteError
from src.records import write_json_atomic

logger = logging.getLogger(__name__)
FORMAT = 2  # raise when the training step's speed or what is measured changes
SIZES = (1, 2, 4, 8, 16, 32)
# Where it is not worth measuring, or the system does not say what memory is used.
USUAL = 8
# Rates that differ by less are taken for equal: timings of single steps vary by as much.
TIE = 0.03
# Most of the free memory that a pack may take.
SHARE = 0.7


@dataclass(frozen=True)
class Measured:
    """A pack at work.

    Attributes:
        size: lanes.
        tokens_per_s: over all lanes, without padding.
        bytes: most memory in use at once, beyond the base; None if unknown.
    """

    size: int
    tokens_per_s: float
    bytes: int | None


@dataclass(frozen=True)
class PackTable:
    """What is known of the packs of one kind.

    Attributes:
        measured: by size, ascending.
        ended: whether larger packs than these would be slower, or not fit.
        most: size above which memory has run out; None if it never has.
    """

    measured: tuple[Measured, ...]
    ended: bool = False
    most: int | None = None

    def covers(self, sizes: Sequence[int]) -> bool:
        """Whether measuring packs of these sizes could tell more."""
        return self.ended or max(sizes) <= max((m.size for m in self.measured), default=0)

    def rate(self, size: int) -> float:
        """Tokens per second of a pack; between measured sizes its time per step is interpolated.

        Args:
            size: at most the largest that was measured.
        """
        for low, high in itertools.pairwise((self.measured[0], *self.measured)):
            if size <= high.size:
                ends = [m.size / m.tokens_per_s for m in (low, high)]
                part = 1.0 if low is high else (size - low.size) / (high.size - low.size)
                return size / (ends[0] + part * (ends[1] - ends[0]))
        raise ValueError(f"no pack of {size} was measured")

    def fastest(self, cells: int, room: float) -> int:
        """The smallest size of pack whose rate is within TIE of the best.

        So it is 1 unless packs are measurably faster. Of rates that cannot be told apart the smallest pack is taken:
        it needs the least memory, its first results come soonest, and an error or an interruption costs least.

        Args:
            cells: that can train together.
            room: bytes that a pack may take.
        """
        largest = min([cells, *([] if self.most is None else [self.most])])
        fitting = [m.size for m in self.measured if m.bytes is None or m.bytes <= room]
        sizes = [size for size in fitting if size <= largest]
        if any(size > largest for size in fitting):
            sizes.append(largest)
        if not sizes:
            return 1
        best = max(map(self.rate, sizes))
        return min(size for size in sizes if self.rate(size) >= (1 - TIE) * best)

    def seconds(self, sizes: Sequence[int]) -> float:
        """Time of one step of packs one after another, in units of a token's second; None of them above the largest."""
        return sum(size / self.rate(size) for size in sizes)


def sizes_to_measure(cells: int, steps: int, *, lane_steps: int, share: float) -> list[int]:
    """Sizes of pack worth measuring: as far as there are cells, and as long as it costs little of the whole work.

    Args:
        steps: of all cells together.
        lane_steps: steps of each lane while one size is measured.
        share: of all steps that measuring may take. At the most, packing makes a sweep a few times faster, and where
            it brings nothing, this share is what the sweep has lost.

    Returns:
        Ascending, at least up to USUAL or all cells; only these and 1 where that is all that is affordable, and nothing
        where even that is not.
    """
    if cells == 1:
        return []
    sizes, usual = sorted({size for size in SIZES if size < cells} | {min(cells, SIZES[-1])}), min(cells, USUAL)
    costs = itertools.accumulate(lane_steps * size for size in sizes)
    worth = [size for size, cost in zip(sizes, costs, strict=True) if cost <= share * steps]
    if worth and worth[-1] >= usual:
        return worth
    return [1, usual] if lane_steps * (1 + usual) <= share * steps else []


def still_rises(rates: Sequence[float]) -> bool:
    """Whether a larger pack may be faster still: one of the last two sizes was faster than all before it.

    Two, as one step that something else on the machine has slowed down must not decide for all later sweeps.
    """
    first = max(1, len(rates) - 2)
    return len(rates) <= 2 or any(rates[i] > (1 + TIE) * max(rates[:i]) for i in range(first, len(rates)))


def predict_bytes(measured: Sequence[Measured], size: int) -> float | None:
    """Memory of a larger pack, from how it grew between the last two; None if unknown."""
    known = [(m.size, m.bytes) for m in measured if m.bytes is not None]
    if not known:
        return None
    low, high = ((0, 0), *known)[-2:]
    per_lane = max(high[1] - low[1], 0) / (high[0] - low[0])
    return high[1] + per_lane * (size - high[0])


def divide(cells: int, size: int, table: PackTable | None = None) -> list[int]:
    """Sizes of as few packs as hold all cells: equal ones, unless full ones and a rest are measurably faster."""
    count = math.ceil(cells / size)
    even = [cells // count + (place < cells % count) for place in range(count)]
    full = [size] * (cells // size) + ([cells % size] if cells % size else [])
    if table is not None and table.seconds(full) < (1 - TIE) * table.seconds(even):
        return full
    return even


def read_table(folder: Path, key: Mapping[str, Any]) -> PackTable | None:
    """What was measured for a key; None where nothing was, or the file is damaged."""
    try:
        values = json.loads(_file(folder, key).read_text())
        if values["key"] != key:
            return None
        measured = tuple(Measured(int(m["size"]), float(m["tokens_per_s"]), m["bytes"]) for m in values["measured"])
        whole = all(m.tokens_per_s > 0 and isinstance(m.bytes, int | None) for m in measured)
        ascending = all(a.size < b.size for a, b in itertools.pairwise(measured))
        starts = not measured or measured[0].size == 1
        most = values["most"] if values["most"] is None else max(1, int(values["most"]))
        return PackTable(measured, bool(values["ended"]), most) if whole and ascending and starts else None
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None


def write_table(folder: Path, key: Mapping[str, Any], table: PackTable) -> None:
    """Remember a table; a cache that cannot be written is no reason to stop."""
    try:
        write_json_atomic(_file(folder, key), {"key": dict(key), **asdict(table)})
    except WriteError as error:
        logger.info("How fast packs are is not remembered: %s", error)


def _file(folder: Path, key: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:16]}.json"
