"""Gradient checkpointing: the same training to the last bit, from fewer saved bytes."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from src.data import collate
from src.models.adapted import AdaptedModel
from src.models.layers import find_layers
from src.models.loading import freeze
from src.spec import MethodSpec, TaskKind
from src.training import train_pack
from src.training.costs import saved_bytes
from tests.tiny import Recorder, start, tiny, tiny_base, tiny_cell, tiny_data

LOOP = {"max_steps": 3, "accumulation": 2, "eval_every": 3, "dtype": "float32"}
PACK: list[dict[str, Any]] = [
    {"targets": "qv", "rank": 2, "dropout": 0.3},
    {"targets": "all", "rank": 4, "dropout": 0.2, "seed": 1, "init": "pissa"},
    {"targets": "qkvo", "rank": 3, "dropout": 0.5, "dora": True, "layers": "1-1", "seed": 2},
]
# Methods that change weights, add layers, or fill a cache of keys and values.
METHODS: list[tuple[str, TaskKind, MethodSpec]] = [
    ("bert", "classification", MethodSpec("full")),
    ("bert", "classification", MethodSpec("bitfit")),
    ("bert", "classification", MethodSpec("adapter_h", 3)),
    ("bert", "classification", MethodSpec("lora_prefix", 4)),
    ("bert", "classification", MethodSpec("random_subspace", 20)),
    ("qwen2", "causal_lm", MethodSpec("prefix", 4)),
    ("bart", "seq2seq", MethodSpec("prefix", 4)),
    ("bart", "seq2seq", MethodSpec("adapter_l", 3)),
    ("t5", "seq2seq", MethodSpec("full")),
]


def train(model_type: str, kind: TaskKind, cells: list[dict[str, Any]], **loop: Any) -> list[Any]:
    """(parameters, losses, validations, generator's state) of each cell, trained as one pack."""
    base, data = tiny_base(model_type, kind, torch.float32), tiny_data(kind)
    model, lanes = start(base, data, [tiny_cell(data, base, **{**LOOP, **loop, **cell}) for cell in cells])
    recorder = Recorder()
    train_pack(model, data, lanes, recorder)
    return [
        (
            model.state(i),
            recorder.losses[i],
            [e.validation for e in lane.history],
            model.roster.generators[i].get_state(),
        )
        for i, lane in enumerate(lanes)
    ]


def check_equal(model_type: str, kind: TaskKind, cells: list[dict[str, Any]]) -> None:
    plain, again = (train(model_type, kind, cells, gradient_checkpointing=on) for on in (False, True))
    for mine, other in zip(plain, again, strict=True):
        assert mine[1:3] == other[1:3] and torch.equal(mine[3], other[3])
        assert mine[0].keys() == other[0].keys()
        assert all(torch.equal(mine[0][name], other[0][name]) for name in mine[0])


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("bert", "classification"), ("llama", "causal_lm"), ("t5", "seq2seq"), ("bart", "seq2seq")],
)
def test_a_pack_trains_bitwise_alike_with_dropout(model_type: str, kind: TaskKind) -> None:
    check_equal(model_type, kind, PACK)


@pytest.mark.parametrize(("model_type", "kind", "method"), METHODS)
def test_other_methods_train_bitwise_alike(model_type: str, kind: TaskKind, method: MethodSpec) -> None:
    check_equal(model_type, kind, [{"method": method, "dropout": 0.3}])


def saved(cell: dict[str, Any], rows: int = 6) -> tuple[int, torch.Tensor]:
    """Bytes that a pass keeps, and its mask."""
    base, data = tiny_base("bert", dtype=torch.float32), tiny_data()
    model = AdaptedModel(base, [tiny_cell(data, base, **{**LOOP, **cell})], num_labels=3, pad_id=1)
    batch = collate(data.train, torch.arange(rows), 1)

    def total() -> torch.Tensor:
        return model.forward([batch], training=True)[0].logits.sum()

    count = saved_bytes(total)
    model.detach()
    return count, batch.attention_mask


def test_layers_keep_their_inputs_and_nothing_else() -> None:
    cell = {"targets": "all", "rank": 2, "dropout": 0.1}
    plain, _ = saved(cell)
    again, mask = saved({**cell, "gradient_checkpointing": True})
    # Two layers of width 16: what enters each, for every token. After them the mean over tokens keeps the mask and the
    # number of tokens, and the head the pooled vectors.
    numbers = mask.numel() + len(mask) + len(mask) * 16
    assert again == 4 * (2 * int(mask.sum()) * 16 + numbers)
    assert again < 0.25 * plain


def test_a_layer_with_nothing_to_differentiate_keeps_nothing() -> None:
    cell = {"targets": "qv", "rank": 2, "layers": "1-1", "gradient_checkpointing": True, "cache_frozen": False}
    upper, mask = saved(cell)
    both, _ = saved({**cell, "layers": None})
    assert both - upper == 4 * int(mask.sum()) * 16


def test_the_base_is_given_back_as_it_was() -> None:
    base, data = tiny_base("bert"), tiny_data()
    layers = find_layers(base.backbone, base.projections)
    assert layers is not None
    cell = tiny_cell(data, base, gradient_checkpointing=True)
    model = AdaptedModel(base, [cell], num_labels=3, pad_id=1)
    assert all("forward" in vars(layer) for layer in layers[""])
    model.detach()
    assert not any("forward" in vars(layer) for layer in layers[""])


def test_backward_may_come_twice_and_after_another_pass() -> None:
    base, data = tiny_base("bert"), tiny_data()
    cells = [tiny_cell(data, base, dropout=0.5, rank=3, gradient_checkpointing=on) for on in (False, True)]
    gradients = []
    for cell in cells:
        model = AdaptedModel(base, [cell], num_labels=3, pad_id=1)
        first, second = (collate(data.train, torch.arange(n), 1) for n in (4, 6))
        loss = model.forward([first], training=True)[0].logits.square().sum()
        model.forward([second], training=True)
        model.forward([second], training=False)
        before = model.roster.generators[0].get_state()
        loss.backward(retain_graph=True)
        loss.backward()
        assert torch.equal(before, model.roster.generators[0].get_state()) and not model.roster.training
        gradients.append({name: p.grad for name, p in model.parameters(0).items()})
        model.detach()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)


def test_a_model_whose_layers_cannot_be_told_apart_trains_without(caplog: pytest.LogCaptureFixture) -> None:
    base, data = freeze(tiny("bert"), "classification", "tiny", {"u": "pooler.dense"}), tiny_data()
    with caplog.at_level(logging.WARNING):
        cell = tiny_cell(data, base, targets="u", gradient_checkpointing=True)
        AdaptedModel(base, [cell], num_labels=3, pad_id=1)
    assert "trainer.gradient_checkpointing has no effect" in caplog.text
