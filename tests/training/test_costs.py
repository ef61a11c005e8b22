"""Memory counted from tensors: sums by hand, the same alone and in company, and no trace in what is trained."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from src.errors import InterruptedRunError
from src.training import costs, train_pack
from src.training.checkpoint import load_lane, save_lanes
from src.training.costs import saved_bytes
from tests.tiny import Recorder, start, tiny_base, tiny_cell, tiny_data

LOOP = {"max_steps": 4, "eval_every": 4, "checkpoint_every": 100, "dtype": "float32"}
CELLS = [
    {"targets": "qv", "rank": 2, "dropout": 0.3},
    {"targets": "all", "rank": 5, "dropout": 0.1, "seed": 1},
    {"targets": "none", "rank": None},
    {"targets": "q", "rank": 1, "layers": "1-1"},
]
KEYS = {"frozen_weight_bytes", "trained_weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes"}


def make(cells=CELLS, **loop):
    base, data = tiny_base("bert", dtype=torch.float32), tiny_data()
    model, lanes = start(base, data, [tiny_cell(data, base, **{**LOOP, **loop, **cell}) for cell in cells])
    return model, data, lanes


def trained(cells=CELLS, **loop):
    model, data, lanes = make(cells, **loop)
    train_pack(model, data, lanes, Recorder())
    return lanes


def test_what_a_small_network_saves_is_the_sum_by_hand():
    inner, frozen = nn.Linear(8, 4), nn.Linear(4, 16).requires_grad_(False)
    x = torch.randn(3, 8)

    def forward():
        # Saved: relu's output, 3 x 4; tanh's output, 3 x 16, once for itself and the square. Merely referenced: x,
        # which inner's weight needs, and the weight of the frozen layer, which saves no input.
        return frozen(inner(x).relu()).tanh().square().sum()

    assert saved_bytes(forward) == (3 * 4 + 3 * 16) * 4
    frozen.requires_grad_(True)
    assert saved_bytes(forward) == (3 * 4 + 3 * 16) * 4  # its input is relu's output, which is saved already


def test_a_frozen_layer_saves_no_input_for_its_weight_and_a_trained_one_does():
    layer, trained_scale = nn.Linear(8, 8), nn.Parameter(torch.ones(()))

    def forward():
        return layer(torch.ones(5, 8) * trained_scale).sum()

    # The product with the scale saves the ones, 5 x 8; the trained layer saves its input as well.
    assert saved_bytes(forward) == 2 * 5 * 8 * 4
    layer.requires_grad_(False)
    assert saved_bytes(forward) == 5 * 8 * 4


def test_a_graph_that_was_dropped_on_the_way_does_not_count():
    weight = nn.Parameter(torch.ones(7))
    kept = saved_bytes(lambda: weight.exp().sum())

    def forward():
        weight.sin().exp().tanh()
        return weight.exp().sum()

    assert kept == saved_bytes(forward) == 7 * 4


def test_a_graph_in_a_reference_cycle_counts_as_well():
    weight = nn.Parameter(torch.ones(7))

    def forward():
        box = [weight.exp()]
        box.append(box)
        return box[0].sum()

    assert saved_bytes(forward) == 7 * 4


def test_the_lora_product_saves_its_input_once_and_r_numbers_a_token():
    model, _, _ = make([{"targets": "q", "rank": 3}])
    layer = model.layers[0]
    x = torch.randn(2, 5, 16, requires_grad=True)
    (adapter,) = layer.adapters[0]

    def forward():
        return layer(x * 1.0).sum()

    assert adapter.a.shape == (3, 16)
    scaled = 16 * 3 * 4  # B times its scale
    assert saved_bytes(forward) == 2 * 5 * (16 + 3) * 4 + scaled
    layer.adapters[0] = [dataclasses.replace(adapter, dropout=0.5)]
    model.roster.training, model.roster.lengths = True, (5,)
    assert (
        saved_bytes(forward) == 2 * 5 * ((16 + 3) * 4 + 16) + scaled
    )  # and a byte for each element that dropout may drop


@pytest.mark.parametrize("cell", CELLS[:2])
def test_counts_of_a_lane_follow_from_its_parameters(cell):
    (lane,) = trained([cell])
    number = sum(p.numel() for p in lane.parameters.values())
    assert lane.costs.keys() == KEYS
    assert lane.costs["trained_weight_bytes"] == lane.costs["gradient_bytes"] == 4 * number
    # AdamW: two moments for each number, and a count of steps for each tensor.
    assert lane.costs["optimizer_bytes"] == 8 * number + 4 * len(lane.parameters)
    base = tiny_base("bert", dtype=torch.float32)
    assert lane.costs["frozen_weight_bytes"] == 4 * base.num_parameters


def test_a_lanes_counts_do_not_depend_on_its_company():
    together = [lane.costs for lane in trained()]
    assert together == [trained([cell])[0].costs for cell in CELLS]
    lora, wide, head, last = (costs["activation_bytes"] for costs in together)
    # The head alone sends no gradient into the base; adapters in the last layer alone send none below it.
    assert head < last < lora < wide


def test_activations_are_those_of_one_micro_batch():
    whole, halves = trained(CELLS[:1])[0].costs, trained(CELLS[:1], accumulation=2)[0].costs
    assert 0.4 < halves["activation_bytes"] / whole["activation_bytes"] < 0.7
    assert {**halves, "activation_bytes": 0} == {**whole, "activation_bytes": 0}


def test_only_lanes_of_a_new_kind_need_a_forward_pass_of_their_own(monkeypatch):
    passes = []
    monkeypatch.setattr(costs, "saved_bytes", lambda forward: passes.append(1) or saved_bytes(forward))
    rates = [{**CELLS[0], "lr": 1e-3 * (i + 1), "head_lr": 1e-2 * (i + 1)} for i in range(3)]
    alike = trained([*rates, CELLS[1]])
    assert len(passes) == 2
    assert [lane.costs for lane in alike[:3]] == [trained([cell])[0].costs for cell in rates]


def test_other_ranks_and_other_matrices_are_measured_anew_and_seeds_weigh_the_same():
    model, data, lanes = make([{"rank": 1}, {"rank": 4}, {"rank": 1, "seed": 1}, {"rank": 1, "targets": "q"}])
    train_pack(model, data, lanes, Recorder())
    one, four, other_seed, q = (lane.costs["activation_bytes"] for lane in lanes)
    assert len({one, four, q}) == 3
    assert one == other_seed


def test_training_is_bitwise_the_same_with_and_without_counting():
    def states(known):
        model, data, lanes = make()
        for lane in lanes:
            lane.costs = dict(known)
        train_pack(model, data, lanes, Recorder())
        return [model.state(lane.index) for lane in lanes], [lane.costs for lane in lanes]

    (counted, measured), (plain, untouched) = states({}), states({"known": 1})
    assert untouched == [{"known": 1}] * 4
    assert all(costs.keys() == KEYS for costs in measured)
    for mine, other in zip(counted, plain, strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_a_lane_that_diverges_at_once_has_no_optimiser_state_to_count():
    model, data, lanes = make(CELLS[:2])
    nn.init.constant_(lanes[0].parameters["head.weight"], torch.inf)
    train_pack(model, data, lanes, Recorder())
    assert lanes[0].status == "diverged"
    assert lanes[0].costs.keys() == KEYS - {"optimizer_bytes"}
    assert lanes[1].costs == trained(CELLS[1:2])[0].costs


@pytest.mark.parametrize("known", [True, False])
def test_a_resumed_run_comes_to_the_same_counts(tmp_path, known):
    """Also from a checkpoint of before they were counted."""
    model, data, lanes = make(CELLS[:2])
    folders = [tmp_path / lane.run_id for lane in lanes]
    with pytest.raises(InterruptedRunError):
        train_pack(model, data, lanes, Recorder(2, save=lambda: save_lanes(model, lanes, folders)))
    if not known:
        for file in tmp_path.rglob("state.json"):
            values = json.loads(file.read_text())
            del values["costs"]
            file.write_text(json.dumps(values))
    model, data, resumed = make(CELLS[:2])
    for lane, folder in zip(resumed, folders, strict=True):
        load_lane(model, lane, folder, 2)
        assert bool(lane.costs) is known
    train_pack(model, data, resumed, Recorder())
    assert [lane.costs for lane in resumed] == [lane.costs for lane in trained(CELLS[:2])]
