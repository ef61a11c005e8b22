"""Evaluation: the same scores for any batch size, in the split's own order, without a trace in the lane."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from src.data import TaskData, collate
from src.models.adapted import AdaptedModel
from src.models.score import Result
from src.spec import TaskKind
from src.training import Lane
from src.training.evaluate import evaluate_lanes
from tests.tiny import shake, start, tiny_base, tiny_cell, tiny_data

KINDS: list[Any] = [("classification", "bert"), ("regression", "roberta"), ("causal_lm", "llama")]
CELLS: list[dict[str, Any]] = [
    {"targets": "qv", "dropout": 0.5, "label_smoothing": 0.3},
    {"targets": "all", "rank": 4, "seed": 1},
]


def pack(kind: TaskKind, model_type: str, **loop: Any) -> tuple[AdaptedModel, TaskData, list[Lane]]:
    """Two lanes whose adapters do something."""
    base, data = tiny_base(model_type, kind), tiny_data(kind, rest=23)
    cells = [{k: v for k, v in c.items() if k != "label_smoothing" or kind != "regression"} for c in CELLS]
    model, lanes = start(base, data, [tiny_cell(data, base, **loop, **cell) for cell in cells])
    shake(model)
    return model, data, lanes


def evaluate(kind: TaskKind, model_type: str, **loop: Any) -> tuple[TaskData, list[Result], list[list[Any]]]:
    """Results on test, and each lane's outputs for each example alone, in the split's order."""
    model, data, lanes = pack(kind, model_type, **loop)
    results = evaluate_lanes(model, data.test, data, lanes)
    alone = []
    for lane in lanes:
        model.retain([lane.index])
        batches = [collate(data.test, torch.tensor([i]), data.pad_id) for i in range(len(data.test))]
        with torch.no_grad():
            alone.append([model.forward([batch], training=False)[0] for batch in batches])
    return data, results, alone


@pytest.mark.parametrize(("kind", "model_type"), KINDS[:2])
@pytest.mark.parametrize("eval_batch_size", [1, 4, 64])
def test_predictions_are_in_the_order_of_the_split(kind: TaskKind, model_type: str, eval_batch_size: int) -> None:
    data, results, alone = evaluate(kind, model_type, eval_batch_size=eval_batch_size)
    assert not data.test.lengths.equal(data.test.lengths.sort().values)
    for result, outputs in zip(results, alone, strict=True):
        logits = torch.cat([output.logits for output in outputs])
        by_hand = logits.argmax(dim=1) if kind == "classification" else logits.squeeze(1)
        torch.testing.assert_close(result.examples["prediction"], by_hand, rtol=1e-9, atol=1e-9)
        assert data.test.labels is not None
        assert torch.equal(result.examples["target"], data.test.labels)


@pytest.mark.parametrize("eval_batch_size", [1, 5, 64])
def test_classification_scores_by_hand(eval_batch_size: int) -> None:
    data, results, alone = evaluate("classification", "bert", eval_batch_size=eval_batch_size)
    assert data.test.labels is not None
    for result, outputs in zip(results, alone, strict=True):
        logits = torch.cat([output.logits for output in outputs])
        right = (logits.argmax(dim=1) == data.test.labels).double().mean().item()
        assert result.metrics["accuracy"] == pytest.approx(right)
        assert result.metrics["loss"] == pytest.approx(F.cross_entropy(logits, data.test.labels).item())


@pytest.mark.parametrize("eval_batch_size", [1, 5, 64])
def test_regression_scores_by_hand(eval_batch_size: int) -> None:
    data, results, alone = evaluate("regression", "roberta", eval_batch_size=eval_batch_size)
    assert data.test.labels is not None
    for result, outputs in zip(results, alone, strict=True):
        numbers = torch.cat([output.logits for output in outputs]).squeeze(1)
        error = (numbers - data.test.labels).square().mean().item()
        assert result.metrics["loss"] == pytest.approx(error)
        assert result.metrics["mse"] == pytest.approx(error)
        correlation = torch.corrcoef(torch.stack([numbers, data.test.labels.double()]))[0, 1].item()
        assert result.metrics["pearson"] == pytest.approx(correlation)


@pytest.mark.parametrize("eval_batch_size", [1, 5, 64])
def test_language_scores_count_every_token_alike(eval_batch_size: int) -> None:
    _, results, alone = evaluate("causal_lm", "llama", eval_batch_size=eval_batch_size)
    for result, outputs in zip(results, alone, strict=True):
        logits, targets = (torch.cat([getattr(o, name) for o in outputs]) for name in ("logits", "targets"))
        loss = F.cross_entropy(logits, targets).item()
        assert result.metrics["loss"] == pytest.approx(loss)
        assert result.metrics["perplexity"] == pytest.approx(math.exp(loss))
        right = (logits.argmax(dim=1) == targets).double().mean().item()
        assert result.metrics["token_accuracy"] == pytest.approx(right)
        each = [F.cross_entropy(output.logits, output.targets, reduction="sum").item() for output in outputs]
        assert result.examples["loss"].tolist() == pytest.approx(each)
        assert result.examples["tokens"].tolist() == [len(output.targets) for output in outputs]


@pytest.mark.parametrize(("kind", "model_type"), KINDS)
def test_evaluating_leaves_no_trace_but_the_time(kind: TaskKind, model_type: str) -> None:
    model, data, lanes = pack(kind, model_type)
    states = [model.state(lane.index) for lane in lanes]
    generators = [g.get_state() for g in model.roster.generators.values()]
    first, second = (evaluate_lanes(model, data.validation, data, lanes) for _ in range(2))
    assert [result.metrics for result in first] == [result.metrics for result in second]
    for lane, state in zip(lanes, states, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state(lane.index).items())
        assert all(parameter.grad is None for parameter in lane.parameters.values())
        assert (lane.step, lane.history, lane.train_seconds) == (0, [], 0.0)
        assert lane.eval_seconds > 0
    assert all(torch.equal(g.get_state(), s) for g, s in zip(model.roster.generators.values(), generators, strict=True))


def test_lanes_may_be_evaluated_in_part() -> None:
    model, data, lanes = pack("classification", "bert")
    both = evaluate_lanes(model, data.test, data, lanes)
    (second,) = evaluate_lanes(model, data.test, data, lanes[1:])
    assert second.metrics == pytest.approx(both[1].metrics)
    assert model.lanes == (1,)


def test_scores_that_are_not_finite_are_missing() -> None:
    model, data, lanes = pack("regression", "roberta")
    with torch.no_grad():
        lanes[0].parameters["head.bias"].fill_(math.nan)
    broken, whole = evaluate_lanes(model, data.test, data, lanes)
    assert broken.metrics["loss"] is None
    assert broken.metrics["mse"] is None
    assert whole.metrics["loss"] is not None
    assert (broken.finite, whole.finite) == (False, True)


def test_constant_predictions_have_no_correlation() -> None:
    model, data, lanes = pack("regression", "roberta")
    with torch.no_grad():
        lanes[0].parameters["head.weight"].zero_()
    (flat,) = evaluate_lanes(model, data.test, data, lanes[:1])
    assert flat.metrics["pearson"] is None
    assert flat.metrics["spearman"] is None
    assert flat.metrics["mse"] is not None


def test_one_example_is_enough() -> None:
    model, data, lanes = pack("classification", "bert")
    one = dataclasses.replace(data, test=tiny_data(rest=1).test)
    results = evaluate_lanes(model, one.test, one, lanes)
    assert all(result.metrics["accuracy"] in {0.0, 1.0} for result in results)
