"""Streams of one run are independent, reproducible and named."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from src.spec.seeds import derive_seed

NAMES = st.lists(st.text("abcdefghij.0123456789", min_size=1) | st.integers(0, 99), min_size=1, max_size=3)


@given(st.integers(0, 2**32 - 1), NAMES)
def test_a_seed_is_one_that_every_generator_takes(seed: int, names: list[str | int]) -> None:
    derived = derive_seed(seed, *names)
    assert 0 <= derived < 2**63
    assert torch.Generator().manual_seed(derived).initial_seed() == derived == derive_seed(seed, *names)


def test_every_seed_and_name_has_a_stream_of_its_own() -> None:
    keys = [f"encoder.layer.{layer}.attention.self.{name}" for layer in range(24) for name in ("query.q", "value.v")]
    streams = [("head",), ("data",), ("dropout",), *(("adapter", key) for key in keys)]
    seeds = {derive_seed(seed, *stream) for seed in range(100) for stream in streams}
    assert len(seeds) == 100 * len(streams)


def test_streams_are_uncorrelated() -> None:
    draws = torch.stack(
        [torch.randn(10_000, generator=torch.Generator().manual_seed(derive_seed(s, "x"))) for s in range(8)]
    )
    off_diagonal = torch.corrcoef(draws) - torch.eye(8)
    assert off_diagonal.abs().max() < 0.05
