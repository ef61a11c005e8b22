from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.records.text import byte_size, duration, one_line, show


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0s"), (12.34, "12.3s"), (59.94, "59.9s"), (59.96, "1m 00s"), (125, "2m 05s"), (3599.6, "1h 00m"),
     (3720, "1h 02m"), (90_000, "25h 00m")],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (88_228, "88.2 kB"), (35e6, "35 MB"), (999_400_000, "999 MB"),
     (350e9, "350 GB"), (1.2e12, "1.2 TB")],
)  # fmt: skip
def test_bytes(count: float, shown: str) -> None:
    assert byte_size(count) == shown


def test_values() -> None:
    assert show(442_368, "count") == "442,368"
    assert show(0.912, "score") == "0.9120"
    assert show(1234.5678, "score") == "1234.57"
    assert show(1e-5, "number") == "1e-05"
    assert show(16.0, "number") == "16"
    assert show(0, "count") == "0"
    assert {show(None, kind) for kind in ("text", "count", "number", "score", "seconds")} == {"-"}


@given(st.text(), st.integers(4, 30))
def test_foreign_text_becomes_one_printable_line(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert line.isprintable() and len(line) <= longest
    assert one_line(line) == line
