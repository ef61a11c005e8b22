"""What a table's records support, with its uncertainty: the numbers behind every sentence and figure of a report.

The learning rate of each configuration is chosen on validation, and so is the best configuration; estimates and
comparisons are then made on test, which took no part in either choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from src.comparison.choose import Choice
from src.comparison.table import Table
from src.statistics.interval import Interval


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: in the metric's unit.
        seeds: how many seeds it is the mean of.
        over_seeds: 95 % t interval over seeds; None with one seed.
        over_examples: 95 % bootstrap interval over test examples, seeds held; None without per-example results.
    """

    mean: float
    seeds: int
    over_seeds: Interval | None
    over_examples: Interval | None


@dataclass(frozen=True)
class Difference:
    """A configuration minus the best one on test, paired by seed; positive is better, whatever the metric's direction.

    Attributes:
        mean: in the metric's unit.
        pairs: seeds that both have.
        interval: 95 % t interval of the mean, for itself alone.
        p: two-sided, of "no difference".
        p_holm: the same after Holm's correction over all configurations compared with the best.
        p_inferior: one-sided, of "worse than the best by the margin or more"; small means not inferior.
        p_inferior_holm: the same after Holm's correction over all configurations.
    """

    mean: float
    pairs: int
    interval: Interval
    p: float
    p_holm: float
    p_inferior: float
    p_inferior_holm: float


@dataclass(frozen=True)
class Contender:
    """One configuration (targets, rank and what else varies) at its chosen learning rate.

    Attributes:
        choice: the cell chosen by validation, and the learning rates that were tried.
        label: for readers.
        validation, test: estimates; test is None where a seed lacks it.
        difference: None for the best itself, and where fewer than two seeds pair.
        place: 1 for the best; configurations that the data do not separate from the one that leads their group share
            a place.
    """

    choice: Choice
    label: str
    validation: Estimate
    test: Estimate | None
    difference: Difference | None
    place: int


@dataclass(frozen=True)
class Findings:
    """All that is said about one table.

    Attributes:
        table: what it rests on.
        contenders: best validation first; empty where nothing is scored.
        baseline: the head alone, None where it was not run.
        margin: of non-inferiority, in the metric's unit.
        level: of the family-wise error, 0.05.
        sufficient: by target set, the contender of smallest rank that is not inferior to the best of all by the
            margin (Holm-corrected); a target set without one is missing.
    """

    table: Table
    contenders: tuple[Contender, ...]
    baseline: Contender | None
    margin: float
    level: float
    sufficient: Mapping[str, Contender]

    @property
    def best(self) -> Contender | None:
        """The contender with the best mean validation score."""
        return self.contenders[0] if self.contenders else None
