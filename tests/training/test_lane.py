"""One lane's optimiser, clip, choice of the best epoch, patience, and divergence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.errors import DivergedError
from src.spec import RunSpec, TaskKind
from src.training import Evaluation, Lane, train_pack
from src.training.lane import LossMeter
from src.training.schedule import lr_factor
from tests.record_factory import make_spec
from tests.tiny import Recorder, start, tiny_base, tiny_cell, tiny_data

TOTAL = 10


def toy_spec(**changes: Any) -> RunSpec:
    changes = {"optim__lr": 0.05, "optim__head_lr": 0.02, "optim__weight_decay": 0.1, "optim__clip": None, **changes}
    return make_spec(**changes)


def toy_lane(spec: RunSpec) -> Lane:
    """A lane of one adapter and a head, all values seeded."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"x.q.A": (2, 4), "x.q.B": (4, 2), "head.weight": (3, 4), "head.bias": (3,)}
    parameters = {
        name: nn.Parameter(torch.randn(*shape, generator=draw, dtype=torch.float64)) for name, shape in shapes.items()
    }
    return Lane(0, "toy", spec, parameters, TOTAL)


def gradients(step: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {
        name: torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        for name, parameter in toy_lane(toy_spec()).parameters.items()
    }


def give(lane: Lane, grads: Mapping[str, Tensor]) -> None:
    for name, parameter in lane.parameters.items():
        parameter.grad = grads[name].clone()


def values(lane: Lane) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in lane.parameters.items()}


def test_steps_equal_adamw_written_out() -> None:
    """Loshchilov and Hutter 2019, algorithm 2; adapters and head with learning rates of their own."""
    spec = toy_spec(optim__schedule="cosine", optim__warmup=0.3, optim__beta2=0.99)
    lane, optim = toy_lane(spec), spec.optim
    expected = values(lane)
    first, second = ({n: torch.zeros_like(v) for n, v in expected.items()} for _ in range(2))
    for step in range(TOTAL):
        grads = gradients(step)
        give(lane, grads)
        lane.apply_step(1.0)
        for name, value in expected.items():
            lr = (optim.head_lr if name.startswith("head.") else optim.lr) * lr_factor(optim, step, TOTAL)
            decay = 0.0 if name == "head.bias" else optim.weight_decay
            first[name] = optim.beta1 * first[name] + (1 - optim.beta1) * grads[name]
            second[name] = optim.beta2 * second[name] + (1 - optim.beta2) * grads[name] ** 2
            mean = first[name] / (1 - optim.beta1 ** (step + 1))
            square = second[name] / (1 - optim.beta2 ** (step + 1))
            expected[name] = value - lr * decay * value - lr * mean / (square.sqrt() + optim.eps)
    torch.testing.assert_close(values(lane), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_steps_equal_torchs_own_loop(clip: float | None) -> None:
    """The same by torch.optim.AdamW, clip_grad_norm_ and LambdaLR, as anyone would write it."""
    spec = toy_spec(optim__clip=clip, optim__head_lr=0.05, optim__weight_decay=0.0)
    lane, peer = toy_lane(spec), toy_lane(spec)
    parameters = list(peer.parameters.values())
    optimizer = torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(spec.optim, step, TOTAL))
    for step in range(TOTAL):
        for one in (lane, peer):
            give(one, gradients(step))
        norm = lane.apply_step(1.0)
        theirs = torch.nn.utils.clip_grad_norm_(parameters, clip or math.inf)
        optimizer.step()
        schedule.step()
        assert norm == pytest.approx(float(theirs))
    torch.testing.assert_close(values(lane), values(peer), rtol=1e-6, atol=1e-6)


def test_only_the_heads_bias_is_spared_weight_decay() -> None:
    lane = toy_lane(toy_spec(optim__warmup=0.0))
    before = values(lane)
    give(lane, {name: torch.zeros_like(value) for name, value in before.items()})
    lane.apply_step(0.0)
    kept = {"x.q.A": 1 - 0.05 * 0.1, "x.q.B": 1 - 0.05 * 0.1, "head.weight": 1 - 0.02 * 0.1, "head.bias": 1.0}
    torch.testing.assert_close(values(lane), {name: share * before[name] for name, share in kept.items()})


def first_moments(lane: Lane) -> float:
    """Global norm of the gradients that AdamW took in its first step."""
    moments = [state["exp_avg"] for state in lane.optimizer.state.values()]
    return float(torch.nn.utils.get_total_norm(moments)) / (1 - lane.spec.optim.beta1)


def test_each_lane_is_clipped_by_its_own_norm() -> None:
    base, data = tiny_base("bert"), tiny_data()
    clips = [None, 1e-3, 1e-6, 1e6]
    cells = [tiny_cell(data, base, max_steps=1, rank=rank, clip=clip) for rank, clip in enumerate(clips, start=1)]
    model, lanes = start(base, data, cells)
    norms: dict[int, float] = {}

    class Norms(Recorder):
        def stepped(self, lanes: Any, losses: Any, found: dict[int, float], tokens: int) -> None:
            norms.update(found)
            super().stepped(lanes, losses, found, tokens)

    train_pack(model, data, lanes, Norms())
    for lane, clip in zip(lanes, clips, strict=True):
        assert norms[lane.index] > 1e-3
        assert first_moments(lane) == pytest.approx(min(norms[lane.index], clip or math.inf), rel=1e-2)


def test_the_last_learning_rate_is_the_adapters_in_the_step_before() -> None:
    lane = toy_lane(toy_spec(optim__warmup=0.3))
    for step in range(TOTAL):
        give(lane, gradients(step))
        lane.apply_step(1.0)
        assert lane.last_lr == pytest.approx(0.05 * lr_factor(lane.spec.optim, step, TOTAL))


def test_gradients_are_cleared_and_steps_counted() -> None:
    lane = toy_lane(toy_spec())
    for step in range(3):
        give(lane, gradients(step))
        lane.apply_step(float(step))
        assert all(parameter.grad is None for parameter in lane.parameters.values())
    assert lane.step == 3
    assert lane.meter.take() == 1.0


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_changes_nothing_and_says_what_to_do(loss: float) -> None:
    lane = toy_lane(toy_spec())
    give(lane, gradients(0))
    before = values(lane)
    with pytest.raises(DivergedError, match=r"^The loss is -?(nan|inf) .* at step 1 of 10; try a lower optim.lr \(now"):
        lane.apply_step(loss)
    assert all(torch.equal(value, before[name]) for name, value in values(lane).items())
    assert (lane.step, lane.meter.take()) == (0, None)


def test_a_gradient_that_is_not_finite_is_divergence_too() -> None:
    lane = toy_lane(toy_spec(optim__clip=1.0))
    give(lane, {**gradients(0), "x.q.B": torch.full((4, 2), math.nan, dtype=torch.float64)})
    before = values(lane)
    with pytest.raises(DivergedError, match="gradient norm nan"):
        lane.apply_step(1.0)
    assert all(torch.equal(value, before[name]) for name, value in values(lane).items())
    lane.diverge(DivergedError("hot"))
    assert lane.status == "diverged"
    assert all(parameter.grad is None for parameter in lane.parameters.values())


def test_a_nan_in_training_ends_as_a_diverged_lane() -> None:
    base, data = tiny_base("bert"), tiny_data()
    model, lanes = start(base, data, [tiny_cell(data, base, alpha=1e300, lr=1e10, clip=None)])
    train_pack(model, data, lanes, Recorder())
    assert lanes[0].status == "diverged"
    assert f"at step {lanes[0].step} of 18" in str(lanes[0].error)
    assert all(torch.isfinite(value).all() for value in model.state(0).values())


def test_a_validation_that_is_not_finite_ends_as_a_diverged_lane_too() -> None:
    """A token that train never shows, whose embedding is not a number."""
    base, data = tiny_base("bert"), tiny_data()
    unseen = dataclasses.replace(data.validation, input_ids=torch.full_like(data.validation.input_ids, 3))
    base.backbone.get_input_embeddings().weight.data[3] = math.nan
    model, lanes = start(base, data, [tiny_cell(data, base)])
    train_pack(model, dataclasses.replace(data, validation=unseen), lanes, Recorder())
    assert (lanes[0].status, lanes[0].step, lanes[0].best) == ("diverged", 9, None)
    assert "The validation loss is not finite after step 9 of 18; try a lower optim.lr" in str(lanes[0].error)


def validate(metric: str, scores: list[float | None], *, patience: int | None = None) -> Lane:
    """A lane after validations with these scores, one a step; as far as it runs."""
    spec = make_spec(task__metric=metric, trainer__patience=patience)
    lane = Lane(0, "toy", spec, {"head.bias": nn.Parameter(torch.zeros(1))}, len(scores))
    for step, score in enumerate(scores, start=1):
        if lane.status == "running":
            lane.step = step
            lane.record(Evaluation(step, float(step), None, {metric: score}), {"step": torch.tensor(step)})
    return lane


@pytest.mark.parametrize(
    ("metric", "scores", "best"),
    [
        ("accuracy", [0.1, 0.5, 0.3], 2),
        ("accuracy", [0.5, 0.5, 0.5], 1),  # of equals the earliest
        ("accuracy", [0.1, 0.5, 0.5], 2),
        ("matthews", [-0.5, -0.1, -0.2], 2),
        ("accuracy", [None, 0.0, None], 2),  # missing is worse than the worst
        ("matthews", [-1.0, None], 1),
        ("accuracy", [None, None], 1),
        ("loss", [3.0, 1.0, 2.0], 2),  # lower is better
        ("loss", [1.0, 1.0, 2.0], 1),
        ("loss", [None, 1e9], 2),
    ],
)
def test_the_best_validation_is_kept(metric: str, scores: list[float | None], best: int) -> None:
    lane = validate(metric, scores)
    assert lane.best is not None
    assert (lane.best.step, int(lane.best_state["step"])) == (best, best)
    assert len(lane.history) == len(scores)
    assert lane.status == "stopped"


@pytest.mark.parametrize(
    ("patience", "steps"),
    [(None, 7), (1, 3), (2, 6), (3, 7)],
)
def test_patience_counts_validations_since_the_best(patience: int | None, steps: int) -> None:
    lane = validate("accuracy", [0.1, 0.3, 0.2, 0.4, 0.4, 0.1, 0.1], patience=patience)
    assert len(lane.history) == steps
    assert lane.status == "stopped"


@pytest.mark.parametrize(
    ("kind", "metric", "best"),
    [("regression", "mse", 1), ("regression", "pearson", 3), ("causal_lm", "perplexity", 1)],
)
def test_each_metric_knows_its_direction(kind: TaskKind, metric: str, best: int) -> None:
    task = dataclasses.replace(make_spec().task, kind=kind, metric=metric)
    lane = Lane(0, "toy", dataclasses.replace(make_spec(), task=task), {"head.bias": nn.Parameter(torch.zeros(1))}, 9)
    for step, score in enumerate((0.1, 0.2, 0.3), start=1):
        lane.record(Evaluation(step, 0.0, None, {metric: score}), {})
    assert lane.best is not None
    assert lane.best.step == best


def test_the_loss_meter_means_since_the_last_take() -> None:
    meter = LossMeter()
    assert meter.take() is None
    for loss in (1.0, 2.0, 6.0):
        meter.add(loss)
    assert meter.take() == 3.0
    assert meter.take() is None
