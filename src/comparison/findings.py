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
        over_seeds: t interval over seeds; None with one seed, and where all seeds score the same.
        over_examples: bootstrap interval over test examples, seeds held; None without per-example results, and for
            validation, of which they are not kept.
        examples: how many test examples `over_examples` rests on; None where there is no such interval.
    """

    mean: float
    seeds: int
    over_seeds: Interval | None
    over_examples: Interval | None
    examples: int | None = None


@dataclass(frozen=True)
class Difference:
    """A configuration minus the best one on test, paired by seed; positive is better, whatever the metric's direction.

    Attributes:
        mean: in the metric's unit.
        pairs: seeds that both have; at least 2.
        interval: t interval of the mean, for itself alone; None where there is no spread to make one from. It and the
            tests take the larger of two variances: of this pair, and pooled over all configurations with the same seeds
            (`src.statistics.paired_test`). With two configurations that is the plain paired t test.
        p: two-sided, of "no difference".
        p_holm: the same after Holm's correction over all pairs of configurations, not only those with the best: which
            one is the best was found from the same runs, and with fewer pairs false alarms exceed the level (twice
            over with 15 configurations whose validation and test scores move together).
        p_inferior: one-sided, of "worse than the best by the margin or more"; small means not inferior.
        p_inferior_holm: the same after Holm's correction over all configurations compared with the best; that the best
            was selected makes these tests err on the safe side.
    """

    mean: float
    pairs: int
    interval: Interval | None
    p: float
    p_holm: float
    p_inferior: float
    p_inferior_holm: float


@dataclass(frozen=True)
class Contender:
    """One configuration (method, targets, rank or size, and what else varies) at its chosen learning rate.

    Attributes:
        choice: the cell chosen by validation, and the learning rates that were tried.
        label: for readers: method, targets, rank or size, and what else varies between configurations.
        validation, test: estimates; test is None where a seed lacks it.
        difference: None for the best itself, and where fewer than two seeds pair.
        place: 1 for the best and all that the data do not show to be worse than it, 2 for the first that is worse and
            all of the rest that are not shown to be worse than that one, and so on; None for the head alone.
    """

    choice: Choice
    label: str
    validation: Estimate
    test: Estimate | None
    difference: Difference | None
    place: int | None


@dataclass(frozen=True)
class Findings:
    """All that is said about one table.

    Attributes:
        table: what it rests on.
        contenders: best validation first, those that lost a seed last; empty where nothing is scored.
        baseline: the head alone, None where it was not run. Its difference stands outside the family of the
            contenders; its p_holm is Bonferroni's for the number of contenders that the best was chosen from.
        margin: of non-inferiority, in the metric's unit.
        level: of the family-wise error, 0.05; intervals leave out as much.
        sufficient: by family (target set, with the method where it is not plain LoRA), the contender of smallest rank,
            then fewest parameters, that is not inferior to the best of all by the margin (p_inferior_holm below the
            level); for its own family the best itself counts, with no test behind it and so without a difference. A
            family without one is missing; empty where the best has fewer than two seeds.
    """

    table: Table
    contenders: tuple[Contender, ...]
    baseline: Contender | None
    margin: float
    level: float
    sufficient: Mapping[str, Contender]

    @property
    def tested(self) -> bool:
        """Whether two configurations share two seeds; else every place is 1 and says nothing."""
        return any(contender.difference for contender in self.contenders)

    @property
    def best(self) -> Contender | None:
        """The contender with the best mean validation score."""
        return self.contenders[0] if self.contenders else None
