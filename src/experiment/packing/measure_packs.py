"""Time and memory of packs of several sizes, from real training steps of lanes that are thrown away."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from src.data import TaskData, collate, evaluation_batches
from src.experiment.packing.memory import Growth, is_out_of_memory, release_memory
from src.experiment.packing.pack_table import Measured, PackTable, predict_bytes, still_rises
from src.experiment.resolve import Cell
from src.models.adapted import AdaptedModel
from src.models.hardware import wait
from src.models.loading import Base
from src.spec import RunSpec
from src.training import Evaluation, Lane, train_pack
from src.training.data_order import DataOrder

TIMED = 2  # steps
# Steps of each lane at one size: one that is not timed, then the timed ones, and these once more.
LANE_STEPS = 1 + 2 * TIMED
# A step counts as a long one from this share of the longest text on.
LONG = 0.9
NEVER = 10**9


def measure_packs(
    cells: Sequence[Cell],
    base: Base,
    data: TaskData,
    sizes: Sequence[int],
    *,
    room: float,
    stop: threading.Event,
) -> PackTable:
    """Let the first lanes of `cells` train for a few steps in packs of each size, smallest first.

    It ends where packs become no faster, or would take more memory than there is room for. All sizes see the same
    steps, once in each of two rounds, and the faster one of each step counts: what else the machine does can only make
    a step slower. The learning rate is 0, so that nothing diverges, and every lane has generators of its own: the base
    is afterwards as it was.

    Args:
        cells: that can train together; as many as the largest size.
        sizes: ascending, from 1.
        room: bytes that a pack may take.

    Raises:
        InterruptedRunError: a stop was requested.
        Exception: anything that the code of one lane raised.
    """
    bench = _Bench(cells[: sizes[-1]], base, data, stop)
    try:
        table = _first_round(bench, sizes, room)
        for row in table.measured:
            bench.again(row.size)
        measured = tuple(Measured(row.size, bench.rate(row.size), row.bytes) for row in table.measured)
        return dataclasses.replace(table, measured=measured)
    finally:
        bench.close()


def _first_round(bench: _Bench, sizes: Sequence[int], room: float) -> PackTable:
    measured: list[Measured] = []
    for size in sizes:
        expected = predict_bytes(measured, size)
        if expected is not None and expected > room:
            return PackTable(tuple(measured), ended=True)
        try:
            used = bench.first(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not measured:
                raise
            bench.forget(size)
            return PackTable(tuple(measured), ended=True, most=measured[-1].size)
        measured.append(Measured(size, bench.rate(size), used))
        if not still_rises([m.tokens_per_s for m in measured]):
            return PackTable(tuple(measured), ended=True)
    return PackTable(tuple(measured))


class _Bench:
    """The lanes that are measured, and what was measured of them.

    Attributes:
        seconds: by size, the least that each timed step took.
    """

    def __init__(self, cells: Sequence[Cell], base: Base, data: TaskData, stop: threading.Event) -> None:
        self.data, self.stop, self.device = data, stop, next(base.model.parameters()).device
        setups = [dataclasses.replace(cell.setup, spec=_at_rest(cell)) for cell in cells]
        self.model = AdaptedModel(base, setups, num_labels=data.num_labels, pad_id=data.pad_id)
        self.lanes = [
            Lane(lane, cell.run_id, setup.spec, self.model.parameters(lane), NEVER, costs={"activation_bytes": 0})
            for lane, (cell, setup) in enumerate(zip(cells, setups, strict=True))
        ]
        self.start = _long_then_usual(DataOrder(data, self.lanes[0].spec.trainer).lengths(self.lanes[0].spec.seed))
        self.seconds: dict[int, list[float]] = {}
        self.tokens: dict[int, int] = {}

    def first(self, size: int) -> int | None:
        """A step that is not timed, with long texts, then those that are; and a batch of the evaluation.

        Returns:
            Bytes at the peak.
        """
        growth = Growth(self.device)
        clock = self._train(size, self.start, 1 + TIMED)
        self.seconds[size], self.tokens[size] = clock.seconds[1:], sum(clock.tokens[1:])
        rows = evaluation_batches(self.data.validation, self.lanes[0].spec.trainer.eval_batch_size)[-1:]
        with torch.inference_mode():
            for batch in (collate(self.data.validation, indices, self.data.pad_id) for indices in rows):
                self.model.forward([batch] * size, training=False)
        return growth.bytes

    def again(self, size: int) -> None:
        """The timed steps once more."""
        clock = self._train(size, self.start + 1, TIMED)
        self.seconds[size] = [min(pair) for pair in zip(self.seconds[size], clock.seconds, strict=True)]

    def rate(self, size: int) -> float:
        """Tokens per second over all lanes."""
        return self.tokens[size] / sum(self.seconds[size])

    def forget(self, size: int) -> None:
        """After memory ran out: gradients and activations of a step that did not end."""
        self.seconds.pop(size, None)
        for lane in self.lanes:
            lane.optimizer.zero_grad(set_to_none=True)
        release_memory(self.device)

    def close(self) -> None:
        """Give the base back."""
        self.model.detach()

    def _train(self, size: int, step: int, steps: int) -> _Clock:
        lanes, clock = self.lanes[:size], _Clock(self.device, self.stop)
        for lane in lanes:
            lane.step, lane.offset = step, 0
        train_pack(self.model, self.data, lanes, clock, step + steps)
        if len(clock.seconds) < steps:
            raise ArithmeticError("their loss is not finite at the start")
        return clock


class _Clock:
    """The training loop's Observer: seconds and tokens of each step."""

    def __init__(self, device: torch.device, stop: threading.Event) -> None:
        self.device, self.stop = device, stop
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self._last = time.perf_counter()

    def stepped(self, lanes: Sequence[Lane], losses: dict[int, float], norms: dict[int, float], tokens: int) -> None:
        wait(self.device)
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self.tokens.append(tokens)
        self._last = now

    def evaluated(self, lane: Lane, evaluation: Evaluation) -> None:
        """There is no validation."""

    def checkpoint(self) -> None:
        """There is nothing to keep."""

    def stop_requested(self) -> bool:
        return self.stop.is_set()


def _at_rest(cell: Cell) -> RunSpec:
    """The cell's spec with learning rates of 0, and without validations and checkpoints."""
    optim = dataclasses.replace(cell.spec.optim, lr=0.0, head_lr=0.0)
    trainer = dataclasses.replace(cell.spec.trainer, eval_every=NEVER, checkpoint_every=NEVER)
    return dataclasses.replace(cell.spec, optim=optim, trainer=trainer)


def _long_then_usual(lengths: Tensor) -> int:
    """A step with texts about as long as the longest, after which TIMED steps with texts of the usual length follow.

    Args:
        lengths: of each step's longest text.
    """
    long = (lengths[: max(1, len(lengths) - TIMED)] >= LONG * lengths.max()).nonzero().flatten().tolist()
    usual = float(lengths.double().median())
    far = {at: abs(float(lengths[at + 1 : at + 1 + TIMED].double().mean()) - usual) for at in long}
    return min(far, key=far.__getitem__, default=int(lengths.argmax()))
