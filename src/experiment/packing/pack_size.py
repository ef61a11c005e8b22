"""How many cells train together: what was asked for; with ``pack=auto``, what is measured to be fastest and fits."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import torch

from src.comparison.method import method_of
from src.errors import InterruptedRunError
from src.experiment.display.progress import Progress
from src.experiment.environment import describe_environment, peak_memory
from src.experiment.packing.measure_packs import LANE_STEPS, measure_packs
from src.experiment.packing.memory import release_memory
from src.experiment.packing.pack_table import FORMAT, SHARE, USUAL, PackTable, read_table, sizes_to_measure, write_table
from src.experiment.packing.plan import PackSize, in_order, share_key, trains
from src.experiment.resolve import Cell
from src.experiment.resources import Resources
from src.models.memory import free_bytes
from src.models.packing import can_pack
from src.spec import RunSpec
from src.training.data_order import DataOrder, total_steps

logger = logging.getLogger(__name__)
# Of the work to be done, most that measuring may take.
MOST_MEASURING = 0.05
Key = dict[str, Any]


class PackSizes:
    """The sizes of all packs of a study; what is measured is remembered in <cache_dir>/packs.

    Args:
        pack: most cells of a pack, or ``auto``.
    """

    def __init__(
        self, pack: int | Literal["auto"], resources: Resources, progress: Progress, stop: threading.Event
    ) -> None:
        self.pack, self.resources, self.progress, self.stop = pack, resources, progress, stop
        self.folder = resources.cache_dir / "packs"
        self._known: dict[Hashable, tuple[Key, PackTable]] = {}
        self._limits: dict[Hashable, int] = {}

    def most(self, cells: Sequence[Cell]) -> int:
        """The largest pack of these cells that fits into memory, as far as is known; at most what was asked for."""
        limit = self._limits.get(share_key(cells[0]), len(cells))
        if self.pack != "auto":
            return min(self.pack, limit)
        _, table = self._recall(cells)
        return limit if table.most is None else min(limit, table.most)

    def choose(self, cells: Sequence[Cell]) -> PackSize:
        """Size of the packs of cells that can train together.

        Measured where the work to be done is worth it and nothing, or too little, is remembered; as measured before
        where it is. Where there is neither, as many as USUAL: the work is little then.

        Raises:
            InterruptedRunError: a stop was requested while measuring.
        """
        most = min(self.most(cells), len(cells))
        if self.pack != "auto" or most == 1:
            return PackSize(most)
        if not trains(cells[0]):
            return PackSize(min(USUAL, most))
        key, table = self._recall(cells)
        sizes = self._worth_measuring(cells, most)
        measures = bool(sizes) and not table.covers(sizes)
        if measures:
            measured = self._measure(cells, sizes)
            table = dataclasses.replace(measured, most=measured.most or table.most)
            if table.measured:
                write_table(self.folder, key, table)
        self._known[share_key(cells[0])] = key, table
        if not table.measured:
            return PackSize(min(USUAL, most))
        size = table.fastest(most, self._room())
        self._tell(size, table, "measured now" if measures else "remembered")
        return PackSize(size, table, self._padding(cells[0].spec))

    def lower(self, cells: Sequence[Cell], most: int) -> None:
        """Plan no larger packs of their kind in this study, nor of such cells in the next: memory has run out."""
        self._limits[share_key(cells[0])] = most
        if self.pack == "auto":
            key, table = self._recall(cells)
            write_table(self.folder, key, dataclasses.replace(table, most=most))

    def _recall(self, cells: Sequence[Cell]) -> tuple[Key, PackTable]:
        """What is known of packs of these cells: in this study, or from before."""
        if share_key(cells[0]) in self._known:
            return self._known[share_key(cells[0])]
        key = describe_packs(cells, self.resources)
        return key, read_table(self.folder, key) or PackTable(())

    def _worth_measuring(self, cells: Sequence[Cell], most: int) -> list[int]:
        spec = cells[0].spec
        steps = len(cells) * total_steps(self.resources.data(spec), spec.trainer)
        if peak_memory(self.resources.device) is None:
            most = min(most, USUAL)
        return sizes_to_measure(most, steps, lane_steps=LANE_STEPS, share=MOST_MEASURING)

    def _measure(self, cells: Sequence[Cell], sizes: Sequence[int]) -> PackTable:
        """Measure, with those cells that have most to train; without success nothing is known."""
        spec = cells[0].spec
        largest = sorted(cells, key=lambda cell: -cell.setup.allocation.parameters)[: sizes[-1]]
        logger.info("Measuring how fast up to %d cells train together", sizes[-1])
        try:
            base, data = self.resources.base(spec), self.resources.data(spec)
            table = measure_packs(in_order(largest), base, data, sizes, room=self._room(), stop=self.stop)
        except InterruptedRunError:
            raise
        except Exception as error:  # what is wrong with a cell is said where it trains
            logger.warning("How fast packs are could not be measured: %s", error)
            return PackTable((), ended=True)
        lines = [f"{m.size}: {m.tokens_per_s:,.0f} tokens/s, {_mebibytes(m.bytes)}" for m in table.measured]
        logger.info("Packs of %s", "; ".join(lines))
        return table

    def _padding(self, spec: RunSpec) -> Callable[[Sequence[Cell]], float] | None:
        """What padding a pack brings; None where texts stand end to end."""
        if can_pack(self.resources.base(spec), spec):
            return None
        return functools.partial(row_padding, DataOrder(self.resources.data(spec), spec.trainer))

    def _room(self) -> float:
        release_memory(self.resources.device)
        return SHARE * free_bytes(self.resources.device)

    def _tell(self, size: int, table: PackTable, when: str) -> None:
        largest = table.measured[-1].size
        if size == 1:
            text = f"Cells train one by one: packs of up to {largest} are not faster or do not fit ({when})"
        else:
            gain = table.rate(size) / table.rate(1)
            text = f"Packs of {size}: {gain:.1f}x the tokens per second of single cells ({when})"
        self.progress.note(text)


def describe_packs(cells: Sequence[Cell], resources: Resources) -> Key:
    """All that the speed and the memory of packs of these cells depend on, as plain JSON values."""
    spec, data = cells[0].spec, resources.data(cells[0].spec)
    env = describe_environment(resources.device, resources.dtype(spec.trainer.dtype))
    lengths = data.train.lengths
    lowest = min((p.layer for cell in cells for p in cell.setup.projections), default=None)
    return {
        "format": FORMAT,
        "torch": env["versions"].get("torch"),
        "device": env["device_name"],
        "threads": env["threads"],
        "dtype": env["dtype"],
        "model": [spec.model.path, spec.model.revision, resources.base(spec).num_parameters],
        "kind": spec.task.kind,
        "batch": [spec.trainer.batch_size, spec.trainer.accumulation],
        "evaluation": spec.trainer.eval_batch_size,
        "recomputes": spec.trainer.gradient_checkpointing,
        "cached": spec.trainer.cache_frozen,
        # Means that differ by less than 8 tokens are alike.
        "lengths": [round(float(lengths.float().mean()) / 8), int(lengths.max())],
        "methods": sorted({method_of(cell.spec) for cell in cells}),
        "dropout": any(cell.spec.lora.dropout > 0 for cell in cells),
        "lowest_layer": lowest,
        "matrices": max(len(cell.setup.projections) for cell in cells),
        # Sizes in which the larger is less than twice the smaller are alike.
        "parameters": max(cell.setup.allocation.parameters for cell in cells).bit_length(),
    }


def row_padding(order: DataOrder, cells: Sequence[Cell]) -> float:
    """Positions that a pack computes because other lanes' texts are longer, over those of its cells alone.

    Counted over the batches of the first epoch; cells of one seed have the same, and so no such padding.
    """
    lengths = torch.stack([order.lengths(cell.spec.seed) for cell in cells])
    return float(lengths.amax(dim=0).sum() * len(cells) / lengths.sum()) - 1


def _mebibytes(value: int | None) -> str:
    return "memory unknown" if value is None else f"{value / 2**20:,.0f} MiB"
