"""Which examples come when: a function of the seed, the same for every cell and after every resumption."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from src.data import Batch
from src.spec import TrainerSpec
from src.training import train_pack
from src.training.data_order import DataOrder, steps_per_epoch, total_steps
from tests.tiny import Recorder, start, tiny_base, tiny_cell, tiny_data

DATA = tiny_data(train=70)
LOOP = TrainerSpec(batch_size=8)


def rows(batch: Batch) -> list[tuple[int, ...]]:
    """The examples of a batch; tiny ones are all different."""
    return [
        tuple(ids[: int(mask.sum())].tolist()) for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]


def epoch(order: DataOrder, seed: int, number: int = 0) -> list[list[tuple[int, ...]]]:
    first = number * order.steps_per_epoch
    steps = range(first, first + order.steps_per_epoch)
    return [[row for batch in order.batches(seed, step) for row in rows(batch)] for step in steps]


ALL = sorted(tuple(piece.tolist()) for piece in torch.split(DATA.train.input_ids, DATA.train.lengths.tolist()))


@pytest.mark.parametrize(("batch_size", "steps"), [(8, 9), (7, 10), (70, 1), (100, 1), (1, 70)])
def test_every_epoch_shows_every_example_once(batch_size: int, steps: int) -> None:
    order = DataOrder(DATA, TrainerSpec(batch_size=batch_size))
    assert order.steps_per_epoch == steps == steps_per_epoch(DATA, order.trainer)
    for number in (0, 1, 5):
        shown = epoch(order, seed=3, number=number)
        assert sorted(row for batch in shown for row in batch) == ALL
        assert all(len(batch) == min(batch_size, 70) for batch in shown[:-1])


def test_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    order = DataOrder(DATA, LOOP)
    assert epoch(order, 0) != epoch(order, 1)
    assert epoch(order, 0, 0) != epoch(order, 0, 1)
    elsewhere = DataOrder(DATA, dataclasses.replace(LOOP, epochs=9, max_steps=3, eval_every=2, patience=1))
    assert epoch(elsewhere, 0, 4) == epoch(order, 0, 4)


def test_a_step_can_be_asked_for_on_its_own() -> None:
    """A resumed run needs only its step: no state of the steps before."""
    walked = [list(map(rows, DataOrder(DATA, LOOP).batches(2, step))) for step in range(30)]
    assert [list(map(rows, DataOrder(DATA, LOOP).batches(2, step))) for step in (29, 0, 13)] == [
        walked[29], walked[0], walked[13]
    ]  # fmt: skip


@pytest.mark.parametrize("accumulation", [1, 2, 3, 8])
def test_micro_batches_split_a_step_and_change_nothing_else(accumulation: int) -> None:
    order = DataOrder(DATA, dataclasses.replace(LOOP, accumulation=accumulation))
    assert epoch(order, 0) == epoch(DataOrder(DATA, LOOP), 0)
    assert len(order.batches(0, 0)) == accumulation
    for step in range(order.steps_per_epoch):
        sizes = [len(batch.labels) for seed in (0, 1, 2) for batch in order.batches(seed, step)]
        # Lanes of different seeds go through the model together, so their micro-batches must have equally many rows.
        assert sizes == sizes[: len(sizes) // 3] * 3


def test_no_micro_batch_is_padded_beyond_its_own_longest_row() -> None:
    order = DataOrder(DATA, dataclasses.replace(LOOP, accumulation=2))
    for step in range(order.steps_per_epoch):
        for batch in order.batches(0, step):
            assert batch.length == int(batch.attention_mask.sum(dim=1).max())


@pytest.mark.parametrize(
    ("epochs", "max_steps", "steps"), [(1, None, 9), (3, None, 27), (3, 5, 5), (1, 20, 20), (3, 27, 27)]
)
def test_max_steps_override_epochs(epochs: int, max_steps: int | None, steps: int) -> None:
    assert total_steps(DATA, dataclasses.replace(LOOP, epochs=epochs, max_steps=max_steps)) == steps
    base = tiny_base("bert")
    model, lanes = start(base, DATA, [tiny_cell(DATA, base, epochs=epochs, max_steps=max_steps)])
    train_pack(model, DATA, lanes, Recorder())
    assert lanes[0].step == steps
    assert lanes[0].history[-1].step == steps
    assert lanes[0].history[-1].epoch == pytest.approx(steps / 9)


@pytest.mark.parametrize(
    ("eval_every", "total", "due"),
    [
        (None, 27, [9, 18, 27]),
        (None, 20, [9, 18, 20]),
        (None, 5, [5]),
        (4, 10, [4, 8, 10]),
        (100, 10, [10]),
        (1, 3, [1, 2, 3]),
    ],
)
def test_validation_at_the_interval_and_at_the_end(eval_every: int | None, total: int, due: list[int]) -> None:
    order = DataOrder(DATA, dataclasses.replace(LOOP, eval_every=eval_every))
    assert [step for step in range(1, total + 1) if order.validation_due(step, total)] == due
