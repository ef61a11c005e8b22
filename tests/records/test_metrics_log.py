from __future__ import annotations

import math
from pathlib import Path

import pytest

from src.errors import WriteError
from src.records import append_row, keep_rows, read_rows
from tests.full_disk import files_at_most


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Rows after 0, 5, 10, 10 and 15 steps."""
    path = tmp_path / "run" / "metrics.jsonl"
    for step, metrics in (
        (0, {"loss": 4.0}),
        (5, {"loss": 3.5}),
        (10, {"loss": 3.0}),
        (10, {"f1": None}),
        (15, {"n": 7}),
    ):
        append_row(path, metrics, step)
    return path


def test_rows_come_back_in_order_with_what_is_missing(log: Path) -> None:
    assert read_rows(log) == [
        {"step": 0, "loss": 4.0},
        {"step": 5, "loss": 3.5},
        {"step": 10, "loss": 3.0},
        {"step": 10, "f1": None},
        {"step": 15, "n": 7},
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_missing(tmp_path: Path, value: float) -> None:
    append_row(tmp_path / "log", {"loss": value}, 1)
    assert read_rows(tmp_path / "log") == [{"step": 1, "loss": None}]


@pytest.mark.parametrize(
    ("step", "kept"), [(0, []), (4, [0]), (5, [0, 5]), (10, [0, 5, 10, 10]), (99, [0, 5, 10, 10, 15])]
)
def test_what_was_logged_after_a_step_is_dropped(log: Path, step: int, kept: list[int]) -> None:
    keep_rows(log, step)
    assert [row["step"] for row in read_rows(log)] == kept
    append_row(log, {"loss": 1.0}, 100)
    assert [row["step"] for row in read_rows(log)] == [*kept, 100]


@pytest.mark.parametrize(
    "torn", [b'{"step": 20, "lo', b'{"step": 20}x\n', b"\xff\xfe\n", b"[1]\n", b'{"loss": 1}\n', b"\0" * 9]
)
def test_a_torn_line_is_left_out_and_removed_where_the_run_goes_on(log: Path, torn: bytes) -> None:
    with log.open("ab") as stream:
        stream.write(torn)
    assert len(read_rows(log)) == 5
    keep_rows(log, 10)
    append_row(log, {"loss": 1.0}, 11)
    assert [row["step"] for row in read_rows(log)] == [0, 5, 10, 10, 11]


def test_a_log_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    keep_rows(tmp_path / "log", 5)
    assert read_rows(tmp_path / "log") == []
    assert list(tmp_path.iterdir()) == []


def test_on_a_full_disk_the_log_stays_as_it_was(log: Path) -> None:
    before = log.read_bytes()
    with files_at_most(len(before) + 10), pytest.raises(WriteError, match=r"metrics\.jsonl"):
        append_row(log, {"loss": 1.0}, 20)
    assert log.read_bytes() == before
    append_row(log, {"loss": 1.0}, 20)
    assert read_rows(log)[-1] == {"step": 20, "loss": 1.0}
