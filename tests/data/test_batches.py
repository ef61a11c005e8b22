"""Batches: partition, determinism, little padding, and collation against a plain loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.data.batches import IGNORED, WINDOW, collate, epoch_batches, evaluation_batches
from src.data.tokens import TokenSplit

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=300)


def make_split(lengths: list[int], **extra: torch.Tensor) -> TokenSplit:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.arange(1, int(offsets[-1]) + 1, dtype=torch.int32)
    if "completion_starts" not in extra:
        extra.setdefault("labels", torch.arange(len(lengths)))
    return TokenSplit(ids, offsets, **extra)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_an_epoch_is_a_partition_that_its_arguments_decide(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(torch.tensor(lengths), batch_size, seed, epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    sizes = sorted(map(len, batches))
    assert all(size == batch_size for size in sizes[1:])
    assert 1 <= sizes[0] <= batch_size
    assert len(batches) == -(-len(lengths) // batch_size)
    torch.manual_seed(7)  # the global generator has no say
    again = epoch_batches(torch.tensor(lengths), batch_size, seed, epoch)
    assert all(torch.equal(one, other) for one, other in zip(batches, again, strict=True))


def test_epochs_and_seeds_differ() -> None:
    lengths = torch.full((64,), 5)
    orders = {tuple(torch.cat(epoch_batches(lengths, 4, seed, epoch)).tolist()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_neighbours_in_length_share_a_batch_and_batches_come_in_no_order_of_length() -> None:
    lengths = torch.randint(5, 200, (4000,), generator=torch.Generator().manual_seed(0))
    batches = epoch_batches(lengths, 16, seed=0, epoch=0)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded < 1.1 * int(lengths.sum())
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest != sorted(longest)
    first_window = torch.cat(batches[:WINDOW])
    assert 0.9 < lengths[first_window].float().mean() / lengths.float().mean() < 1.1


@given(LENGTHS, st.integers(1, 9))
def test_evaluation_sees_every_example_once_by_length(lengths: list[int], batch_size: int) -> None:
    split = make_split(lengths)
    order = torch.cat(evaluation_batches(split, batch_size)).tolist()
    assert order == sorted(range(len(lengths)), key=lambda i: (lengths[i], i))


@given(LENGTHS, st.data())
def test_collate_agrees_with_a_plain_loop(lengths: list[int], data: st.DataObject) -> None:
    starts = torch.tensor([data.draw(st.integers(0, length)) for length in lengths])
    split = make_split(lengths, completion_starts=starts)
    indices = torch.tensor(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8)))
    batch = collate(split, indices, pad_id=0)
    assert batch.length == max(lengths[i] for i in indices.tolist())
    for row, i in enumerate(indices.tolist()):
        ids = split.input_ids[split.offsets[i] : split.offsets[i + 1]].tolist()
        blank = batch.length - len(ids)
        assert batch.input_ids[row].tolist() == ids + [0] * blank
        assert batch.attention_mask[row].tolist() == [1] * len(ids) + [0] * blank
        start = int(starts[i])
        assert batch.labels[row].tolist() == [IGNORED] * start + ids[start:] + [IGNORED] * blank
    assert {batch.input_ids.dtype, batch.attention_mask.dtype, batch.labels.dtype} == {torch.int64}
    assert batch.token_type_ids is None


def test_the_last_example_of_a_split_is_collated_too() -> None:
    batch = collate(make_split([2, 5, 1]), torch.tensor([2, 1]), pad_id=9)
    assert batch.input_ids.tolist() == [[8, 9, 9, 9, 9], [3, 4, 5, 6, 7]]
    assert batch.labels.tolist() == [2, 1]


def test_the_second_text_of_a_pair_has_type_1() -> None:
    split = make_split([4, 2], pair_starts=torch.tensor([2, 2]))
    batch = collate(split, torch.tensor([0, 1]), pad_id=0)
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_labels_keep_their_type(dtype: torch.dtype) -> None:
    split = make_split([2, 2], labels=torch.tensor([1, 0], dtype=dtype))
    assert collate(split, torch.tensor([1]), pad_id=0).labels.dtype == dtype
