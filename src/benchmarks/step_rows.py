"""The pieces of work of `python -m src.bench step`, by the name under which one can ask for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from src.benchmarks.floor import Product, record_products, replay
from src.benchmarks.measure import Work
from src.benchmarks.peer_adapters import loralib_side, peft_side
from src.benchmarks.sides import Peer
from src.benchmarks.workbench import Bench
from src.models.setup import LaneSetup

FROZEN, STOCK, FLOOR = "frozen model", "frozen, transformers' own", "matrix products"
PLAIN_FLOOR = "matrix products, torch's own"
OURS, DORA, PEFT, PEFT_DORA, LORALIB = "ours", "ours, DoRA", "peft", "peft, DoRA", "loralib"
PADDED, PACKED = "natural lengths, padded", "natural lengths, end to end"
OWN_PADDED, OWN_PACKED = "our batches, padded", "our batches, end to end"
TOP, KEPT = "ours, top ", "rest kept"
PEFT_TRAIN, SQUARE = "peft, model.train()", "square product"
SIDE = 8192  # of the product that is taken for what a GPU can do at most


class Rows:
    """Makes pieces of work.

    Args:
        lanes: sizes of packs.

    Attributes:
        products: of the frozen model, forward and backward.
    """

    def __init__(self, bench: Bench, lanes: Sequence[int]) -> None:
        self._bench, self._lanes = bench, lanes
        self.products: list[Product] = []

    def make(self, names: Sequence[str]) -> list[Work]:
        """Of ROWS those asked for, in the order of ROWS."""
        return [work for name, own in ROWS.items() if name in names for work in own(self)]

    def _frozen(self) -> list[Work]:
        return [Work(FROZEN, self._bench.frozen().step)]

    def _stock(self) -> list[Work]:
        return [Work(STOCK, self._bench.stock().step)]

    def _products(self) -> list[Work]:
        bench = self._bench
        self.products = record_products(bench.stock().step, bench.base.model.parameters())
        work = [Work(FLOOR, replay(self.products))]
        work.append(Work(PLAIN_FLOOR, replay(self.products, fastest=False)))
        return [*work, Work(SQUARE, _square(bench.device, bench.dtype))] if bench.device.type == "cuda" else work

    def _ours(self) -> list[Work]:
        return [Work(OURS, self._bench.ours().step)]

    def _packs(self) -> list[Work]:
        counts = [count for count in self._lanes if count > 1]
        return [Work(lanes_name(count), self._bench.ours(lanes=count).step, parts=count) for count in counts]

    def _dora(self) -> list[Work]:
        return [Work(DORA, self._bench.ours(self._bench.changed(dora=True)).step)]

    def _top(self) -> list[Work]:
        return [Work(name, self._bench.ours(setup).step) for name, setup in top_quarter(self._bench).items()]

    def _lengths(self) -> list[Work]:
        """One step of each kind is a step on each of its batches."""
        bench, work = self._bench, []
        for batches, padded, packed in ((bench.drawn, PADDED, PACKED), (bench.own, OWN_PADDED, OWN_PACKED)):
            sides = {name: bench.natural(batches, end_to_end=name == packed) for name in (padded, packed)}
            work += [Work(name, side.step, parts=len(batches)) for name, side in sides.items()]
        return work

    def _peft(self) -> list[Work]:
        return [Work(PEFT, self._peer(self._bench.setup).step)]

    def _train(self) -> list[Work]:
        return [Work(PEFT_TRAIN, self._peer(self._bench.setup, base_dropout=True).step)]

    def _peft_dora(self) -> list[Work]:
        return [Work(PEFT_DORA, self._peer(self._bench.changed(dora=True), dora=True).step)]

    def _loralib(self) -> list[Work]:
        bench = self._bench
        return [Work(LORALIB, loralib_side(bench.base, bench.setup, bench.batches[0], bench.num_labels).step)]

    def _peer(self, setup: LaneSetup, **how: Any) -> Peer:
        return peft_side(self._bench.base, setup, self._bench.batches[0], self._bench.num_labels, **how)


ROWS: dict[str, Callable[[Rows], list[Work]]] = {
    "frozen": Rows._frozen,
    "stock": Rows._stock,
    "products": Rows._products,
    "ours": Rows._ours,
    "lanes": Rows._packs,
    "dora": Rows._dora,
    "top": Rows._top,
    "lengths": Rows._lengths,
    "peft": Rows._peft,
    "train": Rows._train,
    "peft_dora": Rows._peft_dora,
    "loralib": Rows._loralib,
}


def lanes_name(count: int) -> str:
    """Of the row of a pack, whose time is divided by its lanes."""
    return f"ours, {count} lanes, each"


def top_quarter(bench: Bench) -> dict[str, LaneSetup]:
    """By row: adapters in the last quarter of the layers, rounded up, and the same with what enters them kept.

    Empty where the cell itself chooses layers.
    """
    count = 1 + max(projection.layer for projection in bench.base.projections)
    if bench.setup.spec.lora.layers is not None or count == 1:
        return {}
    top = math.ceil(count / 4)
    layers = f"{count - top}-{count - 1}"
    name = f"{TOP}{top} of {count} layers"
    kept = bench.changed({"cache_frozen": True}, layers=layers)
    return {name: bench.changed(layers=layers), f"{name}, {KEPT}": kept}


def _square(device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(SIDE, SIDE, generator=generator, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right
