"""Turns, ratios and their tables."""

from __future__ import annotations

import torch

from src.benchmarks.measure import Work, in_turns, ratio, ratios, timing_table

TIMES = {"base": (1.0, 2.0, 4.0, 2.0, 1.0), "ours": (2.0, 3.0, 4.0, 5.0, 6.0)}


def test_every_round_has_every_piece_and_none_always_comes_first() -> None:
    order: list[str] = []
    work = [Work(name, lambda name=name: order.append(name)) for name in "abc"]
    times = in_turns(work, 3, torch.device("cpu"))
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(second >= 0 for seconds in times.values() for second in seconds)


def test_calls_are_averaged_and_parts_divided() -> None:
    clock = iter([0.0, 12.0]).__next__
    calls: list[str] = []
    piece = Work("a", lambda: calls.append("run"), before=lambda: calls.append("before"), parts=2)
    assert in_turns([piece], 1, torch.device("cpu"), calls=3, warm=False, clock=clock) == {"a": (2.0,)}
    assert calls == ["before", "run", "run", "run"]


def test_ratios_are_of_the_same_round() -> None:
    assert ratios(TIMES["ours"], TIMES["base"]) == (2.0, 1.5, 1.0, 2.5, 6.0)
    assert ratio(TIMES, "ours", "base") == 2.0  # the ratio of the medians would be 4 / 2, of the means 20 / 10
    assert ratio({"base": (1.0, 10.0, 1.0), "ours": (3.0, 20.0, 2.0)}, "ours", "base") == 2.0
    assert ratio(TIMES, "ours", "absent") is None


def test_the_table() -> None:
    table = timing_table("t", TIMES, "base", unit="s", extra={"more": {"ours": "x"}})
    assert table.columns == ("", "median s", "quartiles", "/ base", "quartiles", "more")
    assert table.rows == (
        ("base", "2", "1 to 2", "", "", ""),
        ("ours", "4", "3 to 5", "2.000", "1.500 to 2.500", "x"),
    )
    assert timing_table("t", TIMES, "base").rows[0][1] == "2000"
