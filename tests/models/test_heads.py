"""Heads start alike in all cells; pooling against sums made by hand."""

from __future__ import annotations

import pytest
import torch

from src.models.heads import make_head, pool
from src.spec.run import Pooling

CPU = torch.device("cpu")
# Two rows of three tokens, the second with one of padding whose state must not count.
HIDDEN = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]], [[1.0, 1.0], [2.0, 5.0], [700.0, -700.0]]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


@pytest.mark.parametrize(
    ("pooling", "by_hand"),
    [
        ("mean", [[3.0, 5.0], [1.5, 3.0]]),
        ("first", [[1.0, 2.0], [1.0, 1.0]]),
        ("last", [[5.0, 9.0], [2.0, 5.0]]),
    ],
)
def test_pooling(pooling: Pooling, by_hand: list[list[float]]) -> None:
    assert pool(HIDDEN, MASK, pooling).tolist() == by_hand


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_more_padding_changes_nothing(pooling: Pooling) -> None:
    hidden = torch.cat([HIDDEN, torch.full((2, 4, 2), 1e6)], dim=1)
    mask = torch.nn.functional.pad(MASK, (0, 4))
    assert torch.equal(pool(hidden, mask, pooling), pool(HIDDEN, MASK, pooling))


def test_a_seed_means_the_same_head_in_every_precision() -> None:
    single = make_head(3, 16, 5, device=CPU, dtype=torch.float32)
    double = make_head(3, 16, 5, device=CPU, dtype=torch.float64)
    assert torch.equal(single["head.weight"].double(), double["head.weight"])
    other = make_head(3, 16, 6, device=CPU, dtype=torch.float32)
    assert not torch.equal(single["head.weight"], other["head.weight"])
    assert not single["head.bias"].any()


def test_a_head_has_the_documented_spread_and_is_trained() -> None:
    head = make_head(100, 400, 0, device=CPU, dtype=torch.float32)
    assert head["head.weight"].std().item() == pytest.approx(0.02, rel=0.02)
    assert all(parameter.requires_grad for parameter in head.values())
    assert sum(parameter.numel() for parameter in head.values()) == 100 * 400 + 100


def test_a_language_model_has_no_head_of_its_own() -> None:
    assert make_head(0, 16, 0, device=CPU, dtype=torch.float32) == {}


def test_a_head_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    make_head(3, 16, 5, device=CPU, dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
