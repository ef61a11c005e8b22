"""An interrupted run ends, bit for bit, where an uninterrupted one ends."""

from __future__ import annotations

import json

import pytest
import torch

from src.errors import HarnessError, InterruptedRunError
from src.training import train_pack
from src.training.checkpoint import drop_unfinished, find_steps, load_lane, read_roster, save_lanes
from tests.tiny import Recorder, start, tiny_base, tiny_cell, tiny_data

CELLS = [
    {"targets": "qv", "rank": 2, "dropout": 0.3},
    {"targets": "all", "rank": 4, "dropout": 0.1, "seed": 1, "lr": 3e-3},
    {"targets": "none", "rank": None},
]
LOOP = {"epochs": 2, "accumulation": 2, "checkpoint_every": 4, "eval_every": 5, "dtype": "float32"}


def make(cells=CELLS, **loop):
    base, data = tiny_base("bert", dtype=torch.float32), tiny_data()
    model, lanes = start(base, data, [tiny_cell(data, base, **{**LOOP, **loop}, **cell) for cell in cells])
    return model, data, lanes


def outcome(model, lanes):
    histories = [[(e.step, e.epoch, e.train_loss, e.validation) for e in lane.history] for lane in lanes]
    best = [lane.best.step for lane in lanes]
    return [model.state(lane.index) for lane in lanes], [lane.best_state for lane in lanes], histories, best


def same(mine, other):
    bitwise = all(
        torch.equal(a[name], b[name]) for x, y in zip(mine[:2], other[:2], strict=True)
        for a, b in zip(x, y, strict=True) for name in a
    )  # fmt: skip
    return bitwise and mine[2:] == other[2:]


@pytest.fixture(scope="module")
def uninterrupted():
    model, data, lanes = make()
    train_pack(model, data, lanes, Recorder())
    return outcome(model, lanes)


def interrupt(tmp_path, stop_at):
    model, data, lanes = make()
    folders = [tmp_path / lane.run_id for lane in lanes]
    recorder = Recorder(stop_at, save=lambda: save_lanes(model, lanes, folders))
    with pytest.raises(InterruptedRunError):
        train_pack(model, data, lanes, recorder)
    return folders


def resume(folders, step, spoil=lambda model: None):
    model, data, lanes = make()
    for lane, folder in zip(lanes, folders, strict=True):
        load_lane(model, lane, folder, step)
    spoil(model)
    train_pack(model, data, lanes, Recorder())
    return outcome(model, lanes)


@pytest.mark.parametrize("stop_at", range(18))
def test_resuming_at_any_step_ends_at_the_same_bits(tmp_path, uninterrupted, stop_at):
    folders = interrupt(tmp_path, stop_at)
    assert [find_steps(folder) for folder in folders] == [[stop_at]] * 3
    assert same(resume(folders, stop_at), uninterrupted)


def test_control_a_scrambled_dropout_generator_ends_elsewhere(tmp_path, uninterrupted):
    folders = interrupt(tmp_path, 7)
    spoilt = resume(folders, 7, lambda model: [g.manual_seed(99) for g in model.roster.generators.values()])
    assert not same(spoilt, uninterrupted)


def test_periodic_checkpoints_replace_one_another(tmp_path):
    model, data, lanes = make()
    folders = [tmp_path / lane.run_id for lane in lanes]
    seen = []
    recorder = Recorder(save=lambda: (save_lanes(model, lanes, folders), seen.append(find_steps(folders[0]))))
    train_pack(model, data, lanes, recorder)
    assert seen == [[4], [8], [12], [16]]
    assert read_roster(folders[1], 16) == tuple(lane.run_id for lane in lanes)


def test_a_lane_that_stopped_early_stays_stopped(tmp_path):
    cells = [{"lr": 1e-12, "head_lr": 1e-12, "patience": 1}, {"lr": 1e-2}]
    model, data, lanes = make(cells, epochs=4)
    folders = [tmp_path / lane.run_id for lane in lanes]
    recorder = Recorder(30, save=lambda: save_lanes(model, lanes, folders))
    with pytest.raises(InterruptedRunError):
        train_pack(model, data, lanes, recorder)
    again, _, restored = make(cells, epochs=4)
    for lane, folder in zip(restored, folders, strict=True):
        load_lane(again, lane, folder, 30)
    assert [(lane.status, lane.step) for lane in restored] == [("stopped", 10), ("running", 30)]
    assert restored[0].best == lanes[0].best


def write_checkpoints(tmp_path, steps):
    """Checkpoints without contents: run id -> {step: roster}."""
    for run_id, own in steps.items():
        for step, roster in own.items():
            folder = tmp_path / run_id / f"step-{step:08d}"
            folder.mkdir(parents=True)
            (folder / "state.json").write_text(json.dumps({"roster": list(roster)}))
    return {run_id: tmp_path / run_id for run_id in steps}


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        # Killed while b was still to write step 8: both go on from 4.
        ({"a": {4: "ab", 8: "ab"}, "b": {4: "ab"}}, {"a": [4], "b": [4]}),
        # c had joined after step 4 and was still to write its first one; so it waits again, as then.
        ({"a": {4: "ab", 8: "acd"}, "c": {8: "acd"}, "d": {}}, {"a": [4], "c": [], "d": []}),
        # c had paused at step 3 of its own before it joined.
        ({"a": {4: "ab", 8: "ac"}, "c": {3: "cd"}}, {"a": [4], "c": [3]}),
        # All have written; older ones were being removed.
        ({"a": {8: "ab"}, "b": {4: "ab", 8: "ab"}}, {"a": [8], "b": [4, 8]}),
        # z has ended, or is of another study.
        ({"a": {4: "az"}}, {"a": [4]}),
        # b went on without a, which failed.
        ({"a": {4: "ab"}, "b": {8: "b"}}, {"a": [4], "b": [8]}),
    ],
)
def test_what_a_kill_left_half_written_is_dropped(tmp_path, steps, left):
    folders = write_checkpoints(tmp_path, steps)
    drop_unfinished(folders)
    assert {run_id: find_steps(folder) for run_id, folder in folders.items()} == left


def damage_json(folder):
    (folder / "state.json").write_text("{")


def damage_tensors(folder):
    (folder / "state.safetensors").write_bytes(b"\xff" * 64)


def lose_key(folder):
    values = json.loads((folder / "state.json").read_text())
    del values["history"]
    (folder / "state.json").write_text(json.dumps(values))


@pytest.mark.parametrize("damage", [damage_json, damage_tensors, lose_key])
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path, damage):
    folders = interrupt(tmp_path, 4)
    damage(folders[0] / "step-00000004")
    model, _, lanes = make()
    with pytest.raises(HarnessError, match=r"cannot be read.*rerun=true"):
        load_lane(model, lanes[0], folders[0], 4)


def test_a_checkpoint_of_another_configuration_does_not_load(tmp_path):
    folders = interrupt(tmp_path, 4)
    model, _, lanes = make()
    with pytest.raises(HarnessError, match="does not fit"):
        load_lane(model, lanes[0], folders[1], 4)
