"""Learning-rate schedules against values worked out by hand."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.spec import OptimSpec
from src.spec.run import Schedule
from src.training.schedule import lr_factor


def factors(schedule: Schedule, warmup: float, total: int) -> list[float]:
    optim = OptimSpec(1.0, 1.0, schedule=schedule, warmup=warmup)
    return [lr_factor(optim, step, total) for step in range(total)]


@pytest.mark.parametrize(
    ("schedule", "warmup", "by_hand"),
    [
        ("constant", 0.0, [1, 1, 1, 1]),
        ("linear", 0.0, [1, 0.75, 0.5, 0.25]),
        ("cosine", 0.0, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ("constant", 0.5, [0.5, 1, 1, 1]),
        ("linear", 0.5, [0.5, 1, 1, 0.5]),
        ("cosine", 0.5, [0.5, 1, 1, 0.5]),
        ("linear", 0.26, [0.5, 1, 1, 0.5]),  # 1.04 steps of warm-up are two
        ("linear", 0.99, [0.25, 0.5, 0.75, 1]),
    ],
)
def test_four_steps_by_hand(schedule: Schedule, warmup: float, by_hand: list[float]) -> None:
    assert factors(schedule, warmup, 4) == pytest.approx(by_hand)


def test_the_defaults_by_hand() -> None:
    """6 % of 50 steps are three of warm-up; 47 lead down to zero."""
    linear = factors("linear", 0.06, 50)
    assert linear[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert linear[4] == pytest.approx(46 / 47)
    assert linear[-1] == pytest.approx(1 / 47)


SHARES = st.floats(0, 0.999)


@given(st.sampled_from(get_args(Schedule)), SHARES, st.integers(1, 300))
def test_up_to_the_peak_and_never_up_again(schedule: Schedule, warmup: float, total: int) -> None:
    values = factors(schedule, warmup, total)
    assert all(0 < value <= 1 for value in values)
    assert max(values) == 1
    top = values.index(1.0)
    assert all(a < b for a, b in itertools.pairwise(values[: top + 1]))
    assert all(a >= b for a, b in itertools.pairwise(values[top:]))
    assert top <= math.ceil(warmup * total)


@given(SHARES, st.integers(1, 300))
def test_the_schedules_differ_only_after_warm_up(warmup: float, total: int) -> None:
    steps = math.ceil(warmup * total)
    runs = [factors(schedule, warmup, total)[:steps] for schedule in get_args(Schedule)]
    assert runs[0] == runs[1] == runs[2]
