from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from src.statistics import holm, places

P_VALUES = st.lists(st.floats(0, 1), max_size=12)


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.5."""
    assert holm([0.03, 0.5, 0.01, 0.02]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(P_VALUES)
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= own <= min(1.0, len(p_values) * p) for p, own in zip(p_values, adjusted, strict=True))
    by_p = [own for _, own in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not p values"):
        holm([0.5, bad])


def test_the_family_wise_error_rate_is_kept_whatever_the_dependence() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2000, 1))
    for weight in (0.0, 0.9):
        z = weight**0.5 * shared + (1 - weight) ** 0.5 * rng.normal(size=(2000, 8))
        p = 2 * norm.sf(np.abs(z))
        rate = np.mean([min(holm(row)) < 0.05 for row in p])
        assert rate <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


def ranked(scores: list[float], gap: float) -> list[int]:
    return places(len(scores), lambda item, leader: scores[leader] - scores[item] > gap)


def test_what_is_not_told_apart_shares_a_place_with_its_leader() -> None:
    assert ranked([9, 8, 7, 5, 4, 1], gap=2) == [1, 1, 1, 2, 2, 3]
    assert ranked([9, 8, 7], gap=0) == [1, 2, 3]
    assert ranked([9, 8, 7], gap=9) == [1, 1, 1]
    assert ranked([], gap=0) == []


def test_a_later_item_that_is_not_told_apart_from_the_best_is_not_put_behind_it() -> None:
    worse = {(1, 0)}
    assert places(3, lambda item, leader: (item, leader) in worse) == [1, 2, 1]
