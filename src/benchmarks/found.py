"""What a benchmark found: tables, goals, checks and raw numbers. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["at most", "at least"]


@dataclass(frozen=True)
class Table:
    """Cells as they are shown.

    Attributes:
        columns: the first is text, the others are set to the right.
        rows: one cell for each column; empty where there is nothing to say.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Goal:
    """A ratio that was to be reached.

    Attributes:
        ratio: what was measured; None where it could not be, which `why` explains.
        beside: what else belongs to it, such as a peer's own ratio.
    """

    name: str
    ratio: float | None
    bound: float
    direction: Direction
    beside: str = ""
    why: str = ""

    @property
    def met(self) -> bool | None:
        """None where nothing was measured."""
        if self.ratio is None:
            return None
        return self.ratio <= self.bound if self.direction == "at most" else self.ratio >= self.bound

    @property
    def sentence(self) -> str:
        """``step / frozen model: 1.07, goal at most 1.10: met``."""
        measured = "not measured" if self.ratio is None else f"{self.ratio:.3g}"
        verdict = {True: "met", False: "not met", None: self.why or "not measured here"}[self.met]
        beside = f" ({self.beside})" if self.beside else ""
        return f"{self.name}: {measured}{beside}, goal {self.direction} {self.bound:g}: {verdict}"


@dataclass(frozen=True)
class Found:
    """A benchmark's result.

    Attributes:
        tables, goals: in the order in which they are shown.
        checks: what was found equal before anything was timed, one sentence each.
        notes: what a reader of the tables must know, one sentence each.
        raw: plain JSON values: every single measurement.
        env: plain JSON values: machine and versions.
    """

    tables: tuple[Table, ...]
    goals: tuple[Goal, ...]
    checks: tuple[str, ...]
    raw: Mapping[str, Any]
    env: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
