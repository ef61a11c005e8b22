"""Times of several pieces of work that take turns, and what is said of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import torch

from src.benchmarks.found import Table
from src.models.hardware import wait
from src.models.latency import in_rotation

Seconds = Mapping[str, tuple[float, ...]]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Work:
    """A piece of work to be timed.

    Attributes:
        run: does it once.
        before: called before each timing and not timed, such as to empty a folder.
        parts: by how much its time is divided, such as lanes that step together.
    """

    name: str
    run: Callable[[], object]
    before: Callable[[], object] = lambda: None
    parts: int = 1


def in_turns(
    work: Sequence[Work],
    rounds: int,
    device: torch.device,
    *,
    calls: int = 1,
    warm: bool = True,
    clock: Clock = time.perf_counter,
) -> dict[str, tuple[float, ...]]:
    """Seconds of one call (and part) of each piece of work, one value for each round.

    What else happens on the machine strikes all of them alike: each round takes every piece once, in an order that
    rotates, so that none always follows the same other.

    Args:
        rounds: how often each piece is timed.
        device: waited for before the clock is read.
        calls: of which one timing lasts.
        warm: whether each piece is done once before the first round, uncounted.
        clock: time.process_time counts what this process's processors did, whatever else they had to do meanwhile.
    """
    if warm:
        for piece in work:
            piece.before()
            piece.run()
    times: dict[str, list[float]] = {piece.name: [] for piece in work}
    for piece in in_rotation(work, rounds):
        piece.before()
        times[piece.name].append(_time(piece.run, device, calls, clock) / piece.parts)
    return {name: tuple(seconds) for name, seconds in times.items()}


def ratios(seconds: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """Of each round's two times; one round's noise strikes both."""
    return tuple(own / other for own, other in zip(seconds, reference, strict=True))


def ratio(times: Seconds, name: str, reference: str) -> float | None:
    """Median of the ratios round by round; None where one of the two was not measured."""
    if name not in times or reference not in times:
        return None
    return median(ratios(times[name], times[reference]))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; of one value, the value."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def timing_table(
    title: str,
    times: Seconds,
    reference: str,
    *,
    unit: str = "ms",
    extra: Mapping[str, Mapping[str, str]] | None = None,
) -> Table:
    """Median and quartiles of each piece of work, and of its ratios to the reference in the same round.

    Args:
        unit: ms or s.
        extra: further columns: by column, then by piece.
    """
    scale = {"ms": 1000.0, "s": 1.0}[unit]
    extra = extra or {}
    rows = []
    for name, seconds in times.items():
        of = ratios(seconds, times[reference])
        low, high = spread([scale * value for value in seconds])
        beside = ["", ""] if name == reference else [f"{median(of):.3f}", "{:.3f} to {:.3f}".format(*spread(of))]
        cells = [f"{scale * median(seconds):.4g}", f"{low:.4g} to {high:.4g}", *beside]
        rows.append((name, *cells, *(column.get(name, "") for column in extra.values())))
    columns = ("", f"median {unit}", "quartiles", f"/ {reference}", "quartiles", *extra)
    return Table(title, columns, tuple(rows))


def _time(run: Callable[[], object], device: torch.device, calls: int, clock: Clock) -> float:
    wait(device)
    started = clock()
    for _ in range(calls):
        run()
    wait(device)
    return (clock() - started) / calls
