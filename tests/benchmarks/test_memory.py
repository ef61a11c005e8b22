"""Optimiser state by hand, and the peak of a process of its own."""

from __future__ import annotations

import pytest
import torch

from src.benchmarks.memory import OURS, PEFT, optimizer_bytes
from src.benchmarks.peak import Peak, peak_of
from src.errors import HarnessError
from tests.benchmarks.places import tiny_bench
from tests.experiment.workplace import Workplace, build


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def test_optimizer_state() -> None:
    """Two moments of A and B of two matrices in two layers and of the head, and a count for each tensor."""
    parameters = 2 * 2 * 2 * (16 + 16) + 3 * 16 + 3
    size = 4 * (2 * parameters + 2 * 2 * 2 + 2)
    assert optimizer_bytes(tiny_bench(dtype=torch.float32)) == {OURS: size, PEFT: size}


def test_the_peak_of_a_process(place: Workplace) -> None:
    peak = peak_of("ours", place.spec(), "cpu", str(place.cache), 12)
    assert peak.most is None or (peak.before is not None and peak.most >= peak.before > 10**7)


def test_a_process_that_fails_says_why(place: Workplace) -> None:
    with pytest.raises(HarnessError, match=r"peak memory of loralib ended with: ValueError: loralib is neither ours"):
        peak_of("loralib", place.spec(), "cpu", str(place.cache), 12)


def test_what_steps_added() -> None:
    assert Peak(3, 10).added == 7
    assert Peak(None, 10).added is None
