"""Lanes that join a running pack: a cell's result depends neither on its company nor on when it came."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from src.data import Batch, TaskData
from src.models.adapted import AdaptedModel
from src.models.setup import LaneSetup
from src.spec import MethodSpec, TaskKind, run_id
from src.training import Lane, train_pack
from src.training.data_order import total_steps
from src.training.evaluate import evaluate_lanes
from src.training.loop import takes_part
from tests.tiny import Recorder, start, tiny_base, tiny_cell, tiny_data

HOT = {"targets": "qv", "rank": 1, "alpha": 1e300, "lr": 1e10, "clip": None, "warmup": 0.0, "max_steps": 6}
MIXED: list[dict[str, Any]] = [
    {"targets": "qv", "rank": 1, "alpha": 16.0, "lr": 1e-2},
    {"targets": "all", "rank": 6, "alpha": 4.0, "lr": 3e-3, "dropout": 0.2, "seed": 1},
    HOT,
    {"targets": "o", "rank": 3, "alpha": 8.0, "lr": 2e-2, "clip": 0.1, "schedule": "cosine", "seed": 2},
    {"targets": "qkvo", "rank": 4, "alpha": 1.0, "lr": 5e-3, "dropout": 0.5, "layers": "1-1", "dora": True},
    {"targets": "mlp", "rank": 2, "alpha": 32.0, "lr": 1e-3, "weight_decay": 0.1, "clip": None, "seed": 3},
    {"targets": "kd", "rank": 4, "lr": 1e-2, "init": "pissa", "warmup": 0.0, "schedule": "constant", "seed": 1},
]
# Of nine steps of an epoch the last has six rows and not eight; validations are due within epochs.
LOOP = {"epochs": 3, "eval_every": 4, "patience": 1, "accumulation": 2}


@dataclass
class Places:
    """Gives places that lanes leave to cells that wait, and keeps what the lanes came to."""

    model: AdaptedModel
    data: TaskData
    lanes: list[Lane]
    waiting: deque[LaneSetup]
    recorder: Recorder = field(default_factory=Recorder)
    ended: dict[str, Any] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)

    def refill(self) -> list[Lane]:
        clock = max(lane.clock for lane in self.lanes)
        new = []
        for lane in [lane for lane in self.lanes if not takes_part(lane, None)]:
            self.let_go(lane)
            if self.waiting:
                new.append(self.join(self.waiting.popleft(), clock))
        return new

    def join(self, setup: LaneSetup, clock: int) -> Lane:
        index = self.model.add(setup)
        steps = total_steps(self.data, setup.spec.trainer)
        lane = Lane(index, run_id(setup.spec), setup.spec, self.model.parameters(index), steps, offset=clock)
        self.lanes.append(lane)
        self.offsets.append(clock)
        return lane

    def let_go(self, lane: Lane) -> None:
        (test,) = evaluate_lanes(self.model, self.data.test, self.data, [lane])
        state, best, losses = self.model.state(lane.index), lane.best_state, self.recorder.losses[lane.index]
        history = [(e.step, e.train_loss, e.validation) for e in lane.history]
        numbers = [number for number in losses if not math.isnan(number)]  # a hot lane's last loss is none
        self.ended[lane.run_id] = lane.status, state, best, numbers, history, test.metrics
        self.lanes.remove(lane)
        self.model.remove(lane.index)


def run(cells: Sequence[dict[str, Any]], slots: int, kind: TaskKind, model_type: str, loop: dict[str, Any]) -> Places:
    """Train cells in a pack of so many slots; the rest waits."""
    base, data = tiny_base(model_type, kind), tiny_data(kind, train=70 if loop["accumulation"] == 2 else 65)
    setups = [tiny_cell(data, base, **{**loop, **cell}) for cell in cells]
    model, lanes = start(base, data, setups[:slots])
    places = Places(model, data, lanes, deque(setups[slots:]))
    train_pack(model, data, list(lanes), places.recorder, refill=places.refill)
    for lane in list(places.lanes):
        places.let_go(lane)
    assert not places.waiting
    return places


@pytest.mark.parametrize(
    ("kind", "model_type", "accumulation"),
    [("classification", "bert", 2), ("classification", "gpt2", 4), ("causal_lm", "llama", 2)],
)
def test_who_joins_later_comes_to_what_it_comes_to_alone(kind: TaskKind, model_type: str, accumulation: int) -> None:
    """Four micro-batches of an epoch's one last row are one: other numbers of micro-batches, too."""
    loop = {**LOOP, "accumulation": accumulation}
    together = run(MIXED, 3, kind, model_type, loop)
    assert len(together.ended) == len(MIXED)
    assert len(together.offsets) == len(MIXED) - 3
    assert any(offset % 9 for offset in together.offsets), "lanes stand at different places of their epochs"
    steps = 0
    for cell in MIXED:
        alone = run([cell], 1, kind, model_type, loop)
        (name,) = alone.ended
        status, *values = together.ended[name]
        assert status == alone.ended[name][0] == ("diverged" if cell is HOT else "stopped")
        torch.testing.assert_close(values, list(alone.ended[name][1:]), rtol=1e-10, atol=1e-10, equal_nan=True)
        steps += alone.recorder.steps
    assert together.recorder.steps < 0.6 * steps


def test_only_lanes_of_another_number_of_rows_go_through_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[list[int]] = []
    forward = AdaptedModel.forward

    def counted(self: AdaptedModel, batches: Sequence[Batch], *, training: bool) -> Any:
        if training and len(self.lanes) > 1:  # what a lane costs is measured alone
            passes.append([len(batch.labels) for batch in batches])
        return forward(self, batches, training=training)

    monkeypatch.setattr(AdaptedModel, "forward", counted)
    base, data = tiny_base("bert"), tiny_data()
    model, lanes = start(base, data, [tiny_cell(data, base, max_steps=12, seed=seed) for seed in range(4)])
    for lane in lanes[2:]:
        lane.offset, lane.step = -3, 3
    train_pack(model, data, lanes, Recorder())
    assert [lane.step for lane in lanes] == [12] * 4
    # The ninth batch of an epoch has six rows; two lanes come to theirs, and to their end, three steps before the rest.
    first, second = [[8, 8], [6, 6]], [[6, 6], [8, 8]]
    assert passes == [[8] * 4] * 5 + first + [[8] * 4] * 2 + second + [[8] * 2] * 3


def test_a_lane_that_leaves_takes_its_layers_with_it() -> None:
    base, data = tiny_base("gpt2"), tiny_data()
    plain = {name: type(module) for name, module in base.backbone.named_modules()}
    model, _ = start(base, data, [tiny_cell(data, base, targets=targets) for targets in ("qv", "all")])
    model.remove(1)
    wrapped = {name for name, module in base.backbone.named_modules() if plain.get(name) is not type(module)}
    assert {name for name in wrapped if name in plain} == {"h.0.attn.c_attn", "h.1.attn.c_attn"}
    assert model.lanes == (0,)
    lane = model.add(tiny_cell(data, base, targets="o", seed=5))
    assert (lane, model.lanes) == (2, (0,)), "it takes part when it is retained"
    fresh = AdaptedModel(tiny_base("gpt2"), [tiny_cell(data, base, targets="o", seed=5)], num_labels=3, pad_id=1)
    mine, other = model.state(lane), fresh.state(0)
    assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)
    model.detach()
    assert {name: type(module) for name, module in base.backbone.named_modules()} == plain
    assert not any(isinstance(p, nn.Parameter) and p.requires_grad for p in base.model.parameters())


def test_what_must_train_alone_is_not_let_in() -> None:
    base, data = tiny_base("bert"), tiny_data()
    model, _ = start(base, data, [tiny_cell(data, base)])
    with pytest.raises(ValueError, match="only lanes of LoRA train together"):
        model.add(tiny_cell(data, base, targets="none", rank=None, method=MethodSpec("full")))
