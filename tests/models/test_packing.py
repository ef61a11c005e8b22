"""Texts end to end against the same texts padded, for every architecture that can."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from src.data import Batch
from src.models.adapted import AdaptedModel
from src.models.attention import _fused, _PlainAttention, packed_attention
from src.models.packing import CACHED, PACKED, SIMILAR, lay_out, packed_inputs, unpack
from tests.tiny import tiny_base, tiny_cell, tiny_data
from tests.tiny_architectures import CASES

CPU = torch.device("cpu")
# They normalise in float32, whatever the model's precision.
SINGLE = {"llama", "mistral", "qwen2", "qwen3", "gemma", "phi3"}
NAMES = sorted(name for name, case in CASES.items() if case.config.model_type in PACKED)


def make_batch(lengths: list[int], seed: int = 0, *, types: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.where(mask.bool(), torch.randint(5, 100, mask.shape, generator=generator), 1)
    kinds = (mask * (torch.arange(max(lengths)) > 2)).long() if types else None
    return Batch(ids, mask, torch.zeros(len(lengths), dtype=torch.int64), kinds)


def test_all_packed_architectures_are_tested():
    assert {CASES[name].config.model_type for name in NAMES} == PACKED


@pytest.mark.parametrize("first", [[7, 3, 5, 7], [6, 6]])
@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_and_gradients_equal_those_of_padded_texts(name, first):
    """Two lanes, of different lengths or all alike."""
    model = CASES[name].build(attn_implementation="sdpa").requires_grad_(True)
    error = 1e-5 if model.config.model_type in SINGLE else 1e-10
    batches = [make_batch(first), make_batch([2, 9] if len(first) > 2 else first, seed=1)]
    layout = lay_out(batches, CPU)
    weight = dict(model.named_parameters())
    padded = [model(input_ids=b.input_ids, attention_mask=b.attention_mask).last_hidden_state for b in batches]
    with packed_attention(model.config, layout):
        rows = model(**packed_inputs(batches, layout, model.config, CPU)).last_hidden_state
    ours = unpack(rows[0], batches, layout)
    for own, theirs, batch in zip(ours, padded, batches, strict=True):
        mask = batch.attention_mask.bool()
        torch.testing.assert_close(own[mask], theirs[mask], rtol=error, atol=error)
        assert not own[~mask].any()

    def gradients(blocks: list[Tensor]) -> list[Tensor | None]:
        total = sum((block[b.attention_mask.bool()] ** 3).sum() for block, b in zip(blocks, batches, strict=True))
        return list(torch.autograd.grad(total, list(weight.values()), allow_unused=True))

    for key, own, theirs in zip(weight, gradients(ours), gradients(padded), strict=True):
        assert (own is None) == (theirs is None), key
        if own is not None:
            torch.testing.assert_close(own, theirs, rtol=10 * error, atol=10 * error, msg=key)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("window", [None, 3])
def test_a_sliding_window_reaches_as_far_as_in_the_padded_form(window):
    case = CASES["mistral"]
    model = case.build(attn_implementation="sdpa")
    model.config.sliding_window = window
    for layer in model.layers:
        layer.self_attn.sliding_window = window
    batch = make_batch([9, 6, 2])
    layout, mask = lay_out([batch], CPU), batch.attention_mask.bool()
    padded = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    with packed_attention(model.config, layout):
        rows = model(**packed_inputs([batch], layout, model.config, CPU)).last_hidden_state[0]
    torch.testing.assert_close(rows, padded[mask], rtol=1e-5, atol=1e-5)


def test_second_texts_of_pairs_keep_their_type():
    model, batch = CASES["bert"].build(), make_batch([7, 4], types=True)
    layout = lay_out([batch], CPU)
    padded = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, token_type_ids=batch.token_type_ids
    ).last_hidden_state
    with packed_attention(model.config, layout):
        rows = model(**packed_inputs([batch], layout, model.config, CPU)).last_hidden_state[0]
    torch.testing.assert_close(rows, padded[batch.attention_mask.bool()], rtol=0, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("lengths", [[3, 1, 4, 4, 2], [4, 4, 4]])
def test_plain_attention_equals_the_fused_one_and_passes_gradcheck(causal, window, groups, lengths):
    if window is not None and not causal:
        pytest.skip("windows come with causal attention only")
    layout = lay_out([make_batch(lengths)], CPU)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(sum(lengths), heads, 3, dtype=torch.float64, generator=generator, requires_grad=True)
        for heads in (4, groups, groups)
    )

    def plain(*rows: Tensor) -> Tensor:
        return _PlainAttention.apply(*rows, layout, 0.4, causal, window)

    torch.testing.assert_close(plain(q, k, v), _fused(q, k, v, layout, 0.4, causal, window), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(plain, (q, k, v))


def test_buckets_hold_every_token_once_and_little_padding():
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 300, (64,), generator=generator).tolist()
    layout = lay_out([make_batch(lengths)], CPU)
    rows = torch.cat([b.rows.flatten() if b.valid is None else b.rows[b.valid] for b in layout.buckets])
    assert torch.equal(rows.sort().values, torch.arange(sum(lengths)))
    flat = torch.cat([b.rows.flatten() for b in layout.buckets])
    assert torch.equal(flat[layout.places], torch.arange(sum(lengths)))
    assert sum(b.rows.numel() for b in layout.buckets) * SIMILAR <= sum(lengths)
    assert all(b.rows.numel() <= CACHED or len(b.rows) == 1 for b in layout.buckets)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_model_computes_the_same_padded_and_end_to_end(dropout):
    """Two lanes of different lengths, with dropout drawn for the same elements: loss, gradients and generators."""
    base, data = tiny_base("bert"), tiny_data()
    cells = [tiny_cell(data, base, targets="all", rank=2, seed=seed, dropout=dropout) for seed in (0, 1)]
    batches = [make_batch([7, 2, 3, 3]), make_batch([2, 9, 4, 2], seed=1)]
    found = []
    for packs in (True, False):
        model = AdaptedModel(base, cells, num_labels=3, pad_id=1)
        model.feed.packs = packs
        assert (model.feed.lay_out(batches) is not None) == packs
        outputs = model.forward(batches, training=True)
        sum((output.logits**2).sum() for output in outputs).backward()
        gradients = [p.grad for lane in (0, 1) for p in model.parameters(lane).values() if p.grad is not None]
        states = [generator.get_state() for generator in model.roster.generators.values()]
        found.append(([output.logits.detach() for output in outputs], gradients, states))
        model.detach()
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_full_batches_stay_padded():
    base, data = tiny_base("bert"), tiny_data()
    model = AdaptedModel(base, [tiny_cell(data, base)], num_labels=3, pad_id=1)
    assert model.feed.lay_out([make_batch([9, 9, 9, 8])]) is None
    assert model.feed.lay_out([make_batch([9, 9, 9, 3])]) is not None
    model.detach()
