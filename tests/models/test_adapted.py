"""AdaptedModel: what is trained, what comes out, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from src.data import IGNORED, Batch, collate
from src.models.adapted import AdaptedModel
from src.spec import TaskKind
from tests.tiny import CONFIGS, shake, tiny, tiny_base, tiny_cell, tiny_data

DECODERS = sorted(CONFIGS.keys() - {"bert", "roberta"})
ALL_KINDS: list[Any] = [(name, "classification") for name in CONFIGS] + [(name, "causal_lm") for name in DECODERS]
# Adapter parameters of rank 1 in one of the two layers, by hand: d_in + d_out, with a width of 16, an MLP of 24 (GPT-2:
# 64) and, where k and v are grouped, 2 heads of 4.
ENCODER = {"q": 32, "k": 32, "v": 32, "o": 32, "u": 40, "d": 40}
GROUPED = {**ENCODER, "k": 24, "v": 24, "g": 40}
UNITS = {
    "bert": ENCODER,
    "roberta": ENCODER,
    "gpt2": {**ENCODER, "u": 80, "d": 80},
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), GROUPED),
}


def make(
    model_type: str, cells: Sequence[dict[str, Any]], kind: TaskKind = "classification", *, pad_id: int = 1
) -> tuple[AdaptedModel, list[Batch]]:
    """A pack whose adapters do something, and a batch for each lane, each longer than the one before."""
    base, data = tiny_base(model_type, kind), tiny_data(kind)
    setups = [tiny_cell(data, base, **cell) for cell in cells]
    model = AdaptedModel(base, setups, num_labels=data.num_labels, pad_id=pad_id)
    shake(model)
    order = data.train.lengths.argsort(stable=True)
    batches = [collate(data.train, order[start : start + 4], pad_id) for start in range(0, 64, 20)][: len(cells)]
    return model, batches


@pytest.mark.parametrize("model_type", CONFIGS)
@pytest.mark.parametrize("targets", ["q", "qv", "qkvo", "mlp", "all", "none"])
def test_a_lane_trains_exactly_what_its_letters_name(model_type: str, targets: str) -> None:
    model, _ = make(model_type, [{"targets": targets, "rank": None if targets == "none" else 3}])
    units = UNITS[model_type]
    letters = {"none": "", "all": "".join(units), "mlp": "".join(set(units) & set("ugd"))}.get(targets, targets)
    adapters = model.adapter_parameters(0)
    assert {(key[-3], key[-1]) for key in adapters} == {(letter, matrix) for letter in letters for matrix in "AB"}
    assert len(adapters) == 2 * 2 * len(letters)
    assert sum(p.numel() for p in adapters.values()) == 2 * 3 * sum(units[letter] for letter in letters)
    head = {"head.weight": (3, 16), "head.bias": (3,)}
    assert {name: tuple(p.shape) for name, p in model.parameters(0).items() if name in head} == head
    assert model.parameters(0).keys() == adapters.keys() | head
    trained = {id(p) for p in model.parameters(0).values()}
    assert all(p.requires_grad == (id(p) in trained) for p in model.base.model.parameters())


def test_names_say_module_letter_and_matrix() -> None:
    model, _ = make("gpt2", [{"targets": "qv", "rank": 1}], "causal_lm")
    assert sorted(model.parameters(0)) == sorted(
        f"h.{layer}.attn.c_attn.{letter}.{matrix}" for layer in (0, 1) for letter in "qv" for matrix in "AB"
    )
    model, _ = make("bert", [{"targets": "o", "rank": 1, "layers": "1-1"}])
    name = "encoder.layer.1.attention.output.dense.o"
    assert sorted(model.parameters(0)) == [f"{name}.A", f"{name}.B", "head.bias", "head.weight"]


@pytest.mark.parametrize("model_type", DECODERS)
def test_at_the_start_a_language_model_predicts_as_without_adapters(model_type: str) -> None:
    """B = 0, so the logits are the plain model's, at the completion's positions and nowhere else."""
    base, data = tiny_base(model_type, "causal_lm"), tiny_data("causal_lm")
    model = AdaptedModel(base, [tiny_cell(data, base, targets="all")] * 2, num_labels=0, pad_id=1)
    batches = [collate(data.train, torch.arange(4), 1), collate(data.train, torch.arange(4, 8), 1)]
    plain = tiny(model_type, causal_lm=True)
    for output, batch in zip(model.forward(batches, training=False), batches, strict=True):
        logits = plain(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        after = batch.labels[:, 1:] != IGNORED
        torch.testing.assert_close(output.logits, logits[:, :-1][after], rtol=1e-10, atol=1e-10)
        assert output.targets.tolist() == batch.labels[:, 1:][after].tolist()
        assert len(output.targets) == 4 * 2  # tiny completions have two tokens


@pytest.mark.parametrize("model_type", CONFIGS)
def test_at_the_start_a_classifier_sees_the_plain_models_mean(model_type: str) -> None:
    base, data = tiny_base(model_type), tiny_data()
    model = AdaptedModel(base, [tiny_cell(data, base, targets="all")], num_labels=3, pad_id=1)
    batch = collate(data.train, torch.arange(5), 1)
    hidden = tiny(model_type)(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    means = torch.stack([row[:n].mean(dim=0) for row, n in zip(hidden, batch.attention_mask.sum(dim=1), strict=True)])
    head = model.heads[0]
    expected = means @ head["head.weight"].T + head["head.bias"]
    torch.testing.assert_close(model.forward([batch], training=False)[0].logits, expected, rtol=1e-10, atol=1e-10)


CELLS: list[dict[str, Any]] = [
    {"targets": "qv", "rank": 2},
    {"targets": "all", "rank": 5, "seed": 1},
    {"targets": "o", "rank": 3, "alpha": 2.0, "seed": 2},
]


@pytest.mark.parametrize(("model_type", "kind"), ALL_KINDS)
@pytest.mark.parametrize("pad_id", [1, 7])
def test_company_and_its_padding_change_no_lane(model_type: str, kind: TaskKind, pad_id: int) -> None:
    model, batches = make(model_type, CELLS, kind, pad_id=pad_id)
    assert len({batch.length for batch in batches}) == 3
    together = model.forward(batches, training=False)
    for lane, batch in enumerate(batches):
        model.retain([lane])
        (alone,) = model.forward([batch], training=False)
        torch.testing.assert_close(together[lane].logits, alone.logits, rtol=1e-10, atol=1e-10)
        assert torch.equal(together[lane].targets, alone.targets)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_row_does_not_depend_on_the_rows_beside_it(model_type: str) -> None:
    model, (batch, _, _) = make(model_type, CELLS)
    model.retain([1])
    (whole,) = model.forward([batch], training=False)
    for row in range(4):
        length = int(batch.attention_mask[row].sum())
        cut = Batch(batch.input_ids[[row], :length], batch.attention_mask[[row], :length], batch.labels[[row]])
        (single,) = model.forward([cut], training=False)
        torch.testing.assert_close(single.logits[0], whole.logits[row], rtol=1e-10, atol=1e-10)


def test_token_types_reach_the_model_lane_by_lane() -> None:
    model, batches = make("bert", CELLS)
    typed = [
        Batch(b.input_ids, b.attention_mask, b.labels, (torch.arange(b.length) >= 2).long().expand_as(b.input_ids))
        for b in batches
    ]
    plain, together = model.forward(batches, training=False), model.forward(typed, training=False)
    for lane, batch in enumerate(typed):
        assert not torch.allclose(plain[lane].logits, together[lane].logits)
        model.retain([lane])
        (alone,) = model.forward([batch], training=False)
        torch.testing.assert_close(together[lane].logits, alone.logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("model_type", "kind"), ALL_KINDS)
def test_merged_gives_the_same_and_unmerged_the_same_bits(model_type: str, kind: TaskKind) -> None:
    model, batches = make(model_type, CELLS, kind)
    before = {name: p.clone() for name, p in model.base.model.named_parameters()}
    model.retain([1])
    (apart,) = model.forward(batches[1:2], training=False)
    model.merge()
    (merged,) = model.forward(batches[1:2], training=False)
    torch.testing.assert_close(merged.logits, apart.logits, rtol=1e-9, atol=1e-9)
    assert any(not torch.equal(p, before[name]) for name, p in model.base.model.named_parameters())
    model.unmerge()
    assert all(torch.equal(p, before[name]) for name, p in model.base.model.named_parameters())
    assert torch.equal(model.forward(batches[1:2], training=False)[0].logits, apart.logits)


def test_merging_needs_one_lane_and_forbids_training() -> None:
    model, batches = make("bert", CELLS)
    with pytest.raises(RuntimeError, match=r"exactly one lane, 3 take part; call retain"):
        model.merge()
    model.retain([0])
    model.merge()
    with pytest.raises(RuntimeError, match=r"cannot be trained; call unmerge"):
        model.forward(batches[:1], training=True)
    with pytest.raises(RuntimeError, match="already merged"):
        model.merge()
    with pytest.raises(RuntimeError, match=r"answers for one lane only; call unmerge"):
        model.retain([1])
    model.unmerge()
    model.forward(batches[:1], training=True)


def test_a_state_is_a_copy_that_can_be_put_back() -> None:
    model, batches = make("bert", CELLS)
    state = model.state(1)
    before = model.forward(batches, training=False)
    for parameter in model.parameters(1).values():
        nn.init.ones_(parameter)
    assert not any(torch.equal(state[name], p) for name, p in model.parameters(1).items())
    model.load_state(1, state)
    after = model.forward(batches, training=False)
    assert all(torch.equal(a.logits, b.logits) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("head.bias"), "head.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra"),
        (lambda state: state.update({"head.bias": torch.zeros(4)}), r"head.bias is \(4,\), not \(3,\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(spoil: Any, message: str) -> None:
    model, _ = make("bert", CELLS)
    kept = model.state(0)
    state = {name: torch.zeros_like(value) for name, value in kept.items()}
    spoil(state)
    with pytest.raises(ValueError, match=message):
        model.load_state(0, state)
    assert all(torch.equal(value, kept[name]) for name, value in model.state(0).items())


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("model_type", CONFIGS)
def test_detach_gives_the_base_back_for_the_next_pack(model_type: str, merged: bool) -> None:
    model, batches = make(model_type, CELLS)
    model.retain([1])
    first = model.forward(batches[1:2], training=False)[0].logits
    if merged:
        model.merge()
    model.detach()
    assert not model.merged
    plain, base = tiny(model_type), model.base
    assert [type(m) for m in base.model.modules()] == [type(m) for m in plain.modules()]
    assert all(torch.equal(p, q) for p, q in zip(base.model.parameters(), plain.parameters(), strict=True))
    again = AdaptedModel(base, [model.setups[1]], num_labels=3, pad_id=1)
    again.load_state(0, model.state(1))
    torch.testing.assert_close(again.forward(batches[1:2], training=False)[0].logits, first, rtol=1e-10, atol=1e-10)


def test_cells_of_one_seed_start_alike_whatever_their_size() -> None:
    base, data = tiny_base("bert"), tiny_data()
    cells = [{"targets": "q", "rank": 4}, {"targets": "qkvo", "rank": 4}, {"targets": "q", "rank": 4, "seed": 1}]
    model = AdaptedModel(base, [tiny_cell(data, base, **cell) for cell in cells], num_labels=3, pad_id=1)
    one, other, elsewhere = (model.state(lane) for lane in range(3))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    starts = [name for name in one if name.endswith((".A", "head.weight"))]
    assert len(starts) == 3
    assert not any(torch.equal(one[name], elsewhere[name]) for name in starts)


@pytest.mark.parametrize(("model_type", "kind"), [("bert", "classification"), ("llama", "causal_lm")])
def test_over_a_bfloat16_base_everything_trained_and_all_logits_are_float32(model_type: str, kind: TaskKind) -> None:
    base, data = tiny_base(model_type, kind, torch.bfloat16), tiny_data(kind)
    model = AdaptedModel(base, [tiny_cell(data, base, targets="all")], num_labels=data.num_labels, pad_id=1)
    shake(model)
    (output,) = model.forward([collate(data.train, torch.arange(4), 1)], training=True)
    assert output.logits.dtype == torch.float32
    output.logits.square().sum().backward()
    for parameter in model.parameters(0).values():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.any()
