"""Batches without padding, of a task's own tokens."""

from __future__ import annotations

import pytest
import torch

from src.benchmarks.texts import full_batches
from src.data import IGNORED
from src.errors import ConfigError
from tests.tiny import tiny_data


def test_tokens_end_to_end_and_labels_in_order() -> None:
    data = tiny_data()
    batches = full_batches(data, 3, 10, 2)
    ids = torch.cat([batch.input_ids for batch in batches]).flatten()
    assert torch.equal(ids, data.train.input_ids[:60].long())
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.train.labels[:6])
    assert all(batch.attention_mask.all() and batch.length == 10 for batch in batches)


def test_a_short_split_begins_again() -> None:
    data = tiny_data(train=8)
    tokens = data.train.input_ids.long()
    (batch,) = full_batches(data, 20, 11, 1)
    assert torch.equal(batch.input_ids.flatten()[len(tokens) : 2 * len(tokens)], tokens)
    assert torch.equal(batch.labels[8:16], data.train.labels)


def test_as_large_a_share_is_predicted_as_in_the_data() -> None:
    data = tiny_data("causal_lm")
    share = 2 * len(data.train) / data.train.num_tokens  # two tokens of each example
    (batch,) = full_batches(data, 4, 20, 1)
    assert (batch.labels != IGNORED).sum(dim=1).tolist() == 4 * [round(20 * share)]


def test_a_decoder_s_targets_are_refused() -> None:
    with pytest.raises(ConfigError, match="task is 'seq2seq'; allowed: texts for classification"):
        full_batches(tiny_data("seq2seq"), 2, 8, 1)
