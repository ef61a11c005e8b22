"""A lane's training does not depend on its company, in every architecture that reads text."""

from __future__ import annotations

import pytest

from src.data import TaskData
from src.models.loading import freeze
from src.training import train_pack
from tests.tiny import Recorder, start, tiny_cell, tiny_data
from tests.tiny_architectures import CASES

TEXT = [name for name, case in CASES.items() if "input_ids" in case.inputs()]


@pytest.fixture(scope="module")
def data() -> TaskData:
    return tiny_data(train=24, rest=4)


def losses(name: str, data: TaskData, *seeds: int, targets: str) -> dict[int, list[float]]:
    """By seed, of each step."""
    base = freeze(CASES[name].build(), "classification", "tiny")
    cells = [tiny_cell(data, base, targets=targets, seed=seed, rank=1 + seed, dropout=0.3, epochs=1) for seed in seeds]
    model, lanes = start(base, data, cells)
    recorder = Recorder()
    train_pack(model, data, lanes, recorder)
    model.detach()
    return {seed: recorder.losses[lane] for lane, seed in enumerate(seeds)}


@pytest.mark.parametrize("name", TEXT)
def test_losses_with_dropout_and_other_padding_are_those_of_the_lane_alone(name: str, data: TaskData) -> None:
    targets = "voud" if name == "deberta-v2" else "all"
    both = losses(name, data, 0, 1, targets=targets)
    for seed in (0, 1):
        assert len(both[seed]) == 3
        assert both[seed] == pytest.approx(losses(name, data, seed, targets=targets)[seed], rel=1e-10)


def test_debertas_queries_and_keys_are_trained_by_one_lane_alone(data: TaskData) -> None:
    assert len(losses("deberta-v2", data, 0, targets="qk")[0]) == 3
    with pytest.raises(ValueError, match="adapted by one lane alone"):
        losses("deberta-v2", data, 0, 1, targets="qk")
