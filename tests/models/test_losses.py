"""Losses against sums made by hand; any split into micro-batches adds up to the same step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from src.data import IGNORED, Batch
from src.models.losses import loss_sum, num_targets
from src.models.outputs import LaneOutput
from src.spec import TaskKind
from src.training import train_pack
from tests.tiny import Recorder, start, tiny_base, tiny_cell, tiny_data

# Three examples of three classes; exponentials are 1, 2, 4 and so on, so that softmax can be read off.
LOGITS = torch.tensor([[1, 2, 4], [8, 1, 1], [1, 1, 2]], dtype=torch.float64).log()
TARGETS = torch.tensor([2, 0, 1])
LOG_PROBABILITIES = [[1 / 7, 2 / 7, 4 / 7], [8 / 10, 1 / 10, 1 / 10], [1 / 4, 1 / 4, 2 / 4]]


@pytest.mark.parametrize("kind", ["classification", "causal_lm"])
def test_cross_entropy_is_summed(kind: TaskKind) -> None:
    by_hand = -math.log(4 / 7) - math.log(8 / 10) - math.log(1 / 4)
    assert loss_sum(kind, LaneOutput(LOGITS, TARGETS)).item() == pytest.approx(by_hand)


def test_label_smoothing_spreads_its_share_over_all_classes() -> None:
    by_hand = sum(
        -sum((0.9 * (c == target) + 0.1 / 3) * math.log(p) for c, p in enumerate(row))
        for row, target in zip(LOG_PROBABILITIES, TARGETS.tolist(), strict=True)
    )
    assert loss_sum("classification", LaneOutput(LOGITS, TARGETS), 0.1).item() == pytest.approx(by_hand)


def test_squared_error_is_summed() -> None:
    output = LaneOutput(torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([0.0, 4.0, -1.0]))
    assert loss_sum("regression", output).item() == 1 + 4 + 0


def test_what_a_sum_is_divided_by() -> None:
    ids = torch.ones(2, 4, dtype=torch.int64)
    labels = torch.tensor([[IGNORED, IGNORED, 5, 6], [IGNORED, 7, 8, IGNORED]])
    assert num_targets("causal_lm", Batch(ids, ids, labels)) == 4
    assert num_targets("classification", Batch(ids, ids, torch.tensor([0, 1]))) == 2
    # Nothing comes before the first token, so it cannot be predicted.
    first = torch.tensor([[5, 6, IGNORED, IGNORED], [IGNORED, 7, 8, IGNORED]])
    assert num_targets("causal_lm", Batch(ids, ids, first)) == 3


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [("classification", "bert"), ("regression", "roberta"), ("causal_lm", "llama"), ("causal_lm", "gpt2")],
)
@pytest.mark.parametrize("accumulation", [2, 3, 8])
def test_micro_batches_add_up_to_the_one_big_batch(kind: TaskKind, model_type: str, accumulation: int) -> None:
    """After 12 steps of 8 examples, over an epoch's end with its smaller batch, in float64."""

    def train(pieces: int) -> tuple[list[dict[str, torch.Tensor]], Any]:
        base, data = tiny_base(model_type, kind), tiny_data(kind)
        smoothing = {} if kind == "regression" else {"label_smoothing": 0.1}
        loop = {"max_steps": 12, "accumulation": pieces, "eval_every": 6}
        cells = [{"targets": "all", "rank": 3}, {"targets": "qv", "seed": 1, "clip": 0.01, **smoothing}]
        model, lanes = start(base, data, [tiny_cell(data, base, **loop, **cell) for cell in cells])
        recorder = Recorder()
        train_pack(model, data, lanes, recorder)
        seen = [(lane.step, lane.tokens, [e.validation for e in lane.history]) for lane in lanes]
        return [model.state(lane.index) for lane in lanes], (recorder.losses, seen)

    states, told = train(accumulation)
    whole, told_whole = train(1)
    torch.testing.assert_close(states, whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(told, told_whole, rtol=1e-10, atol=1e-10)
