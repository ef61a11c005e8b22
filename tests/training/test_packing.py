"""The gate: a lane's result does not depend on its company."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from src.spec import FrozenMap
from src.training import train_pack
from src.training.evaluate import evaluate_lanes
from tests.tiny import Recorder, start, tiny_base, tiny_cell, tiny_data

# Mixed ranks, alphas, targets, learning rates, schedules, clips, dropouts, decays, smoothing, layers and seeds.
MIXED = [
    {"targets": "qv", "rank": 1, "alpha": 16.0, "lr": 1e-2},
    {"targets": "all", "rank": 6, "alpha": 4.0, "lr": 3e-3, "dropout": 0.2, "seed": 1},
    {"targets": "o", "rank": 3, "alpha": 8.0, "lr": 2e-2, "clip": 0.1, "schedule": "cosine"},
    {"targets": "none", "rank": None, "head_lr": 2e-2, "seed": 2},
    {"targets": "qkvo", "rank": None, "budget": 900, "alpha": 1.0, "lr": 5e-3, "dropout": 0.5, "layers": "1-1"},
    {"targets": "mlp", "rank": 2, "alpha": 32.0, "lr": 1e-3, "weight_decay": 0.1, "clip": None, "init": "gaussian"},
    {"targets": "kd", "rank": 4, "lr": 1e-2, "label_smoothing": 0.1, "warmup": 0.0, "schedule": "constant", "seed": 1},
]
# DoRA, rsLoRA, LoRA+, PiSSA and ranks that differ, beside plain adapters.
VARIANTS = [
    {"targets": "qv", "rank": 3, "alpha": 6.0, "lr": 1e-2, "dora": True, "dropout": 0.3},
    {"targets": "all", "rank": 2, "lr": 3e-3, "init": "pissa", "dropout": 0.2, "seed": 1},
    {"targets": "qkvo", "rank": 4, "lr": 5e-4, "rslora": True, "b_lr_ratio": 16.0, "weight_decay": 0.1},
    {"targets": "qv", "rank": 1, "lr": 1e-2, "ranks": FrozenMap({"v": 4, "q/1": 2})},
    {"targets": "od", "rank": None, "budget": 1000, "fill": "layers", "lr": 5e-3, "dora": True, "init": "pissa"},
    {"targets": "qv", "rank": 1, "alpha": 16.0, "lr": 1e-2},
]
LOOP = {"epochs": 6, "max_steps": 50, "accumulation": 2, "eval_every": 20}


def run(cells, kind, model_type):
    """Train cells as one pack; (parameters, step losses, validations, test metrics) of each."""
    base, data = tiny_base(model_type, kind), tiny_data(kind)
    setups = [tiny_cell(data, base, **LOOP, **cell) for cell in cells]
    model, lanes = start(base, data, setups)
    recorder = Recorder()
    train_pack(model, data, lanes, recorder)
    states = [model.state(lane.index) for lane in lanes]
    tests = [result.metrics for result in evaluate_lanes(model, data.test, data, lanes)]
    return [
        (state, recorder.losses.get(lane.index, []), [e.validation for e in lane.history], test)
        for lane, state, test in zip(lanes, states, tests, strict=True)
    ]


def kinds_of_cells(kind):
    """Regression knows no label smoothing, and a causal_lm has no head to train without adapters."""
    cells = [{k: v for k, v in c.items() if k != "label_smoothing" or kind != "regression"} for c in MIXED]
    return [c for c in cells if c["targets"] != "none" or kind != "causal_lm"]


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [("classification", "bert"), ("classification", "gpt2"), ("regression", "roberta"), ("causal_lm", "llama")],
)
def test_packed_and_solo_agree_after_50_steps_in_float64(kind, model_type):
    cells = kinds_of_cells(kind)
    packed = run(cells, kind, model_type)
    for cell, together in zip(cells, packed, strict=True):
        alone = run([cell], kind, model_type)[0]
        assert len(alone[1]) == 50
        for mine, other in zip(together, alone, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kind", "model_type"), [("classification", "bert"), ("causal_lm", "gpt2")])
def test_kin_of_lora_train_packed_as_they_do_solo(kind, model_type):
    packed = run(VARIANTS, kind, model_type)
    for cell, together in zip(VARIANTS, packed, strict=True):
        alone = run([cell], kind, model_type)[0]
        for mine, other in zip(together, alone, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_packed_and_solo_agree_in_float32():
    def run32(cells):
        base, data = tiny_base("bert", dtype=torch.float32), tiny_data()
        setups = [tiny_cell(data, base, max_steps=20, **{**cell, "dtype": "float32"}) for cell in cells]
        model, lanes = start(base, data, setups)
        train_pack(model, data, lanes, Recorder())
        return [model.state(lane.index) for lane in lanes]

    together = run32(MIXED[:4])
    for cell, state in zip(MIXED[:4], together, strict=True):
        torch.testing.assert_close(state, run32([cell])[0], rtol=1e-4, atol=1e-5)


def test_another_lanes_learning_rate_leaves_the_rest_bitwise_as_it_was():
    first = run(MIXED[:3], "classification", "bert")
    changed = [MIXED[0], {**MIXED[1], "lr": 1e-1}, MIXED[2]]
    second = run(changed, "classification", "bert")
    for lane in (0, 2):
        assert all(torch.equal(first[lane][0][name], second[lane][0][name]) for name in first[lane][0])
    assert any(not torch.equal(first[1][0][name], second[1][0][name]) for name in first[1][0])


def test_a_lane_that_diverges_leaves_the_others_bitwise_as_they_were():
    calm = {"targets": "qv", "rank": 1}
    hot = {**calm, "alpha": 1e300, "lr": 1e10, "clip": None}
    base, data = tiny_base("bert"), tiny_data()

    def train(cells):
        model, lanes = start(base, data, [tiny_cell(data, base, **LOOP, **cell) for cell in cells])
        train_pack(model, data, lanes, Recorder())
        ends = [(lane.status, model.state(lane.index), [dataclasses.asdict(e) for e in lane.history]) for lane in lanes]
        model.detach()
        return ends

    without, diverges = (train([MIXED[0], company, MIXED[2]]) for company in (calm, hot))
    assert [status for status, _, _ in without] == ["stopped"] * 3
    assert [status for status, _, _ in diverges] == ["stopped", "diverged", "stopped"]
    for lane in (0, 2):
        assert all(torch.equal(without[lane][1][name], diverges[lane][1][name]) for name in without[lane][1])
        assert without[lane][2] == diverges[lane][2]
    for mine, other in zip(train([MIXED[0], MIXED[2]]), (diverges[0], diverges[2]), strict=True):
        torch.testing.assert_close(mine[1], other[1], rtol=1e-10, atol=1e-10)


def test_early_stop_ends_a_lane_and_not_its_company():
    base, data = tiny_base("bert"), tiny_data()
    data = dataclasses.replace(data, spec=dataclasses.replace(data.spec, metric="loss"))
    cells = [{"lr": 1e-300, "head_lr": 1e-300, "patience": 1}, {"lr": 1e-3, "head_lr": 1e-3, "patience": 1}]
    setups = [tiny_cell(data, base, epochs=8, **cell) for cell in cells]
    model, lanes = start(base, data, setups)
    train_pack(model, data, lanes, Recorder())
    assert lanes[0].step == 18 and len(lanes[0].history) == 2  # two epochs of nine steps, the second no better
    assert lanes[1].step > 18
    assert all(lane.status == "stopped" and lane.best_state for lane in lanes)
