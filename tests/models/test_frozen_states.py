"""What enters the lowest adapted layer, kept by example: the same results, and layers below that run once."""

from __future__ import annotations

import copy
import dataclasses
import gc
import logging
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM

from src.data import TaskData, collate
from src.models import kept_states
from src.models.adapted import AdaptedModel
from src.models.kept_states import GROUP, shelf_of
from src.models.layers import find_layers
from src.models.loading import Base, freeze
from src.spec import MethodSpec, TaskKind
from src.training import train_pack
from src.training.evaluate import evaluate_lanes
from tests.tiny import CONFIGS, Recorder, shake, start, tiny_base, tiny_cell, tiny_data
from tests.tiny_architectures import CASES
from tests.tiny_pictures import picture_data, vision_base

DEEP = 4
LOOP = {"max_steps": 10, "accumulation": 2, "eval_every": 5}
PACK: list[dict[str, Any]] = [
    {"targets": "qv", "rank": 2, "dropout": 0.3, "layers": "2-3"},
    {"targets": "all", "rank": 4, "lr": 3e-3, "layers": "3-3", "seed": 1, "dora": True, "dropout": 0.2},
    {"targets": "o", "rank": 3, "layers": "2-2", "init": "pissa", "lr": 2e-2},
    {"targets": "none", "rank": None, "seed": 2},
]


def deep_base(model_type: str = "bert", kind: TaskKind = "classification") -> Base:
    config = copy.deepcopy(CONFIGS[model_type])
    config.num_hidden_layers = DEEP
    torch.manual_seed(0)
    auto = AutoModelForCausalLM if kind == "causal_lm" else AutoModel
    return freeze(auto.from_config(config).double(), kind, "tiny")


class Counter:
    """Calls of each layer, in order, and the rows of each."""

    def __init__(self, base: Base) -> None:
        stacks = find_layers(base.backbone, base.projections)
        assert stacks is not None
        self.layers = [layer for layers in stacks.values() for layer in layers]
        self.rows: list[list[int]] = [[] for _ in self.layers]
        self.differentiated: list[set[bool]] = [set() for _ in self.layers]
        for number, layer in enumerate(self.layers):
            # On a part of the layer, which is not there where the layer is passed by.
            norm = next(module for module in layer.modules() if "Norm" in type(module).__name__)
            norm.register_forward_hook(self._noting(number))

    def _noting(self, number: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            self.rows[number].append(len(output))
            self.differentiated[number].add(output.requires_grad)

        return hook


def train(base: Base, data: TaskData, cells: Sequence[dict[str, Any]], **loop: Any) -> list[Any]:
    """(parameters, losses, validations, test) of each cell, trained as one pack."""
    setups = [tiny_cell(data, base, **{**LOOP, **loop, **cell}) for cell in cells]
    model, lanes = start(base, data, setups)
    recorder = Recorder()
    train_pack(model, data, lanes, recorder)
    states = [model.state(lane.index) for lane in lanes]
    tests = [result.metrics for result in evaluate_lanes(model, data.test, data, lanes)]
    model.detach()
    return [
        (state, recorder.losses.get(lane.index, []), [e.validation for e in lane.history], test)
        for lane, state, test in zip(lanes, states, tests, strict=True)
    ]


def cells_of(kind: TaskKind) -> list[dict[str, Any]]:
    return PACK[:3] if kind == "causal_lm" else PACK


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("bert", "classification"), ("roberta", "regression"), ("mistral", "classification"), ("llama", "causal_lm")],
)
def test_a_pack_trains_and_scores_as_it_does_without(model_type: str, kind: TaskKind) -> None:
    base, data = deep_base(model_type, kind), tiny_data(kind)
    plain = train(base, data, cells_of(kind), cache_frozen=False)
    counter = Counter(base)
    kept = train(base, data, cells_of(kind))
    for mine, other in zip(kept, plain, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)
    # Each example of train, validation and test once; one more to see how wide states are; one batch to compare.
    groups = [-(-len(split) // GROUP) for split in (data.train, data.validation, data.test)]
    assert [len(rows) for rows in counter.rows[:2]] == [sum(groups) + 3 + 1] * 2
    assert len(counter.rows[2]) == len(counter.rows[3]) > 20


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_any_depth(depth: int) -> None:
    base, data = deep_base(), tiny_data()
    cell = {"targets": "qkvo", "rank": 2, "dropout": 0.2, "layers": f"{depth}-{DEEP - 1}"}
    plain, kept = (train(base, data, [cell], cache_frozen=on) for on in (False, True))
    torch.testing.assert_close(kept, plain, rtol=1e-10, atol=1e-10)


def test_with_the_head_alone_the_backbone_runs_once() -> None:
    base, data = deep_base(), tiny_data()
    cells = [{"targets": "none", "rank": None, "seed": seed} for seed in (0, 1)]
    plain = train(base, data, cells, cache_frozen=False)
    counter = Counter(base)
    torch.testing.assert_close(train(base, data, cells), plain, rtol=1e-10, atol=1e-10)
    calls = [len(rows) for rows in counter.rows]
    train(base, data, [{"targets": "none", "rank": None, "seed": 5}])
    assert [len(rows) for rows in counter.rows] == calls and len(set(calls)) == 1


def test_later_packs_on_the_same_base_compute_nothing_below() -> None:
    base, data = deep_base(), tiny_data()
    train(base, data, PACK[:1])
    counter = Counter(base)
    train(base, data, [PACK[0], {**PACK[0], "seed": 7, "lr": 1e-3}])
    assert counter.rows[:2] == [[], []] and counter.rows[2]


def test_gradient_checkpointing_reads_what_is_kept() -> None:
    base, data = deep_base(), tiny_data()
    plain, both = (train(base, data, PACK, cache_frozen=on, gradient_checkpointing=on) for on in (False, True))
    torch.testing.assert_close(both, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kept", [False, True])
def test_nothing_below_the_lowest_adapted_layer_of_all_lanes_is_differentiated(kept: bool) -> None:
    base, data = deep_base(), tiny_data()
    cells = [tiny_cell(data, base, cache_frozen=kept, **cell) for cell in PACK]
    model = AdaptedModel(base, cells, num_labels=3, pad_id=1)
    counter = Counter(base)
    batch = collate(data.train, torch.arange(6), 1)
    outputs = model.forward([batch] * len(cells), training=True)
    sum(output.logits.square().sum() for output in outputs).backward()
    below, above = counter.differentiated[:2], counter.differentiated[2:]
    assert below == [{False}] * 2
    assert all(True in seen for seen in above)


def looks_up(base: Base, data: TaskData, cells: Sequence[dict[str, Any]]) -> tuple[bool, torch.Tensor]:
    """Whether the lowest layer is passed by once it has run, and logits."""
    model = AdaptedModel(base, [tiny_cell(data, base, **c) for c in cells], num_labels=data.num_labels, pad_id=1)
    shake(model)
    batch = collate(data.train, torch.arange(5), 1)
    model.forward([batch] * len(cells), training=True)
    counter = Counter(base)
    outputs = model.forward([batch] * len(cells), training=False)
    model.detach()
    return not counter.rows[0], torch.cat([output.logits for output in outputs])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if set(case.stacks) == {""}])
def test_every_architecture_with_one_stack(name: str) -> None:
    """At the upper of its two layers; but for DeBERTa, whose layers share more than their hidden states."""
    if (kind := {"vit": "vit", "clip_vision_model": "clip"}.get(name)) is not None:
        base, data = vision_base(kind), picture_data()
    else:
        base, data = freeze(CASES[name].build(), "classification", "tiny"), tiny_data()
    cell = {"targets": "all", "layers": "1-1"}
    ran, plain = looks_up(base, data, [{**cell, "cache_frozen": False}])
    passed_by, kept = looks_up(base, data, [cell])
    assert not ran and passed_by == (name != "deberta-v2")
    torch.testing.assert_close(kept, plain, rtol=1e-10, atol=1e-10)


OTHERS: dict[str, dict[str, Any]] = {
    "a prefix": {"method": MethodSpec("lora_prefix", 3)},
    "adapter layers": {"method": MethodSpec("adapter_h", 3)},
    "biases": {"method": MethodSpec("bitfit")},
    "adapters in all layers": {"layers": None},
    "less than an epoch": {"max_steps": 8, "batch_size": 8},
    "not asked for": {"cache_frozen": False},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_where_nothing_is_kept(changes: dict[str, Any]) -> None:
    base, data = tiny_base("bert"), tiny_data()
    assert not looks_up(base, data, [{"layers": "1-1", **changes}])[0]


@pytest.mark.parametrize("kind", ["classification", "seq2seq"])
def test_models_of_two_stacks_run_as_a_whole(kind: TaskKind) -> None:
    assert not looks_up(tiny_base("t5", kind), tiny_data(kind), [{"layers": "1-1"}])[0]


def test_many_lanes_of_few_steps_draw_enough() -> None:
    base, data = tiny_base("bert"), tiny_data()
    cells = [{"layers": "1-1", "max_steps": 5, "batch_size": 8, "seed": seed} for seed in (0, 1)]
    assert not looks_up(base, data, cells[:1])[0]
    assert looks_up(base, data, cells)[0]


def test_batches_of_unknown_origin_or_of_several_splits_run_as_a_whole() -> None:
    base, data = tiny_base("bert"), tiny_data()
    cells = [tiny_cell(data, base, layers="1-1", seed=seed) for seed in (0, 1)]
    model = AdaptedModel(base, cells, num_labels=3, pad_id=1)
    known = [collate(split, torch.arange(4), 1) for split in (data.train, data.validation)]
    model.forward([known[0]] * 2, training=False)
    unknown = dataclasses.replace(known[0], split=None, indices=None)
    counter = Counter(base)
    for batches in ([unknown] * 2, known, [known[0], unknown]):
        model.forward(batches, training=False)
    assert len(counter.rows[0]) == 3


def test_what_the_model_does_not_come_to_again_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    """A layer whose output depends on who else is in the batch."""
    base, data = tiny_base("bert"), tiny_data()
    layers = find_layers(base.backbone, base.projections)
    assert layers is not None
    layers[""][0].register_forward_hook(lambda _module, _inputs, output: output * len(output))
    plain = train(base, data, [{"layers": "1-1", "dropout": 0.3}], cache_frozen=False)
    with caplog.at_level(logging.WARNING):
        kept = train(base, data, [{"layers": "1-1", "dropout": 0.3}])
    assert "What enters layer 1 is not kept" in caplog.text and len(caplog.records) == 1
    torch.testing.assert_close(kept, plain, rtol=0, atol=0)


def test_with_too_little_memory_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    base, data = tiny_base("bert"), tiny_data()
    plain = train(base, data, [{"layers": "1-1"}], cache_frozen=False)
    monkeypatch.setattr(kept_states, "SHARE", 0.0)
    assert not looks_up(base, data, [{"layers": "1-1"}])[0]
    torch.testing.assert_close(train(base, data, [{"layers": "1-1"}]), plain, rtol=0, atol=0)


def test_states_do_not_depend_on_who_asked_first() -> None:
    """In float32, where other company in a batch would round otherwise."""
    data, outputs = tiny_data(), []
    for order in (torch.arange(64), torch.arange(64).flip(0)):
        base = tiny_base("bert", dtype=torch.float32)
        cell = tiny_cell(data, base, layers="1-1", dtype="float32")
        model = AdaptedModel(base, [cell], num_labels=3, pad_id=1)
        for rows in order.split(5):
            model.forward([collate(data.train, rows, 1)], training=False)
        outputs.append(model.forward([collate(data.train, torch.arange(9), 1)], training=False)[0].logits)
    assert torch.equal(*outputs)


def test_memory_goes_with_the_base() -> None:
    base, data = tiny_base("bert"), tiny_data()
    assert looks_up(base, data, [{"layers": "1-1"}])[0]
    shelf = weakref.ref(shelf_of(base.model))
    del base
    gc.collect()
    assert shelf() is None


def test_a_lane_that_comes_later_lowers_the_layer() -> None:
    base, data = deep_base(), tiny_data()
    model = AdaptedModel(base, [tiny_cell(data, base, layers="3-3")], num_labels=3, pad_id=1)
    batch = collate(data.train, torch.arange(4), 1)
    model.forward([batch], training=False)
    lane = model.add(tiny_cell(data, base, layers="1-2", seed=1))
    shake(model)
    model.retain([0, lane])
    kept = [output.logits for output in model.forward([batch] * 2, training=False)]
    plain = [o.logits for o in model.forward([dataclasses.replace(batch, split=None)] * 2, training=False)]
    torch.testing.assert_close(kept, plain, rtol=1e-10, atol=1e-10)
    model.remove(lane)
    (alone,) = model.forward([batch], training=False)
    torch.testing.assert_close(alone.logits, plain[0], rtol=1e-10, atol=1e-10)
