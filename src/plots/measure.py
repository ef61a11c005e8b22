"""What findings say, as figures need it: which split, which interval, axis labels with units, and n."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from src.comparison import Cell, Table
from src.comparison.findings import Contender, Estimate, Findings
from src.comparison.method import full_family_of
from src.plots.style import spell
from src.records import RunRecord
from src.spec import TEXT_KINDS
from src.statistics.interval import Interval

UNITS = {
    "accuracy": "share of examples",
    "token_accuracy": "share of tokens",
    "f1": "0 to 1",
    "macro_f1": "0 to 1",
    "matthews": "-1 to 1",
    "pearson": "-1 to 1",
    "spearman": "-1 to 1",
    "mse": "squared units of the label",
    "perplexity": "per token",
}


@dataclass(frozen=True)
class Measured:
    """The contenders that can be drawn, with their estimates on one split.

    Attributes:
        split: ``test``, or ``validation`` where no contender has a test score.
        contenders, estimates: best by validation first.
    """

    findings: Findings
    split: str
    contenders: tuple[Contender, ...]
    estimates: tuple[Estimate, ...]

    @property
    def axis(self) -> str:
        return axis_label(self.findings.table, self.split)

    @property
    def interval_words(self) -> str:
        """What the bars are, for the caption."""
        seeds = any(estimate.over_seeds is not None for estimate in self.estimates)
        examples = any(
            estimate.over_seeds is None and estimate.over_examples is not None for estimate in self.estimates
        )
        match seeds, examples:
            case True, False:
                return "Bars are 95 % t intervals over seeds."
            case True, True:
                return "Bars are 95 % t intervals over seeds, and over test examples alone where there is one seed."
            case False, True:
                return "Bars are 95 % bootstrap intervals over test examples; one seed says nothing about other seeds."
        return "One seed and no per-example results: no intervals."

    def note(self) -> str:
        return f"{self.findings.table.title}; n = {sample_size(self.contenders, self.split)}"

    @property
    def baseline(self) -> Estimate | None:
        """Of the head alone."""
        head = self.findings.baseline
        return None if head is None else self._of(head)

    def estimate(self, contender: Contender) -> Estimate:
        """Of one of `contenders`."""
        estimate = self._of(contender)
        assert estimate is not None
        return estimate

    def _of(self, contender: Contender) -> Estimate | None:
        return contender.test if self.split == "test" else contender.validation


def measure(findings: Findings) -> Measured:
    """Test scores, or validation scores where there are none on test."""
    split = "test" if any(contender.test is not None for contender in findings.contenders) else "validation"
    both = [(c, c.test if split == "test" else c.validation) for c in findings.contenders]
    known = [(contender, estimate) for contender, estimate in both if estimate is not None]
    return Measured(findings, split, tuple(c for c, _ in known), tuple(e for _, e in known))


def drawn_interval(estimate: Estimate) -> Interval | None:
    """Over seeds, else over examples."""
    return estimate.over_seeds or estimate.over_examples


def error_bar(estimate: Estimate) -> list[list[float]]:
    """`yerr` of matplotlib: distances below and above the mean, 0 without an interval."""
    interval = drawn_interval(estimate)
    if interval is None:
        return [[0.0], [0.0]]
    return [[max(0.0, estimate.mean - interval.low)], [max(0.0, interval.high - estimate.mean)]]


def axis_label(table: Table, split: str) -> str:
    """Split, metric, unit and direction; on two lines where one would be longer than an axis."""
    unit = UNITS.get(table.metric) or _loss_unit(table)
    unit = f"({unit}{', lower is better' if table.lower_is_better else ''})"
    name = f"{split} {table.metric}"
    return f"{name}{' ' if len(name) + len(unit) < 33 else chr(10)}{unit}"


def sample_size(contenders: Sequence[Contender], split: str) -> str:
    """``3 seeds x 1,500 test examples``, as far as it is known."""
    cells = [contender.choice.cell for contender in contenders]
    records = [record for cell in cells for record in cell.scored]
    seeds = sorted({len(cell.scored) for cell in cells})
    parts = [counted(seeds, "seed"), *examples_of(records, split)]
    return " x ".join(part for part in parts if part)


def examples_of(records: Iterable[RunRecord], split: str) -> list[str]:
    """``["1,500 test examples"]``, or nothing where the records do not tell."""
    numbers = set()
    for record in records:
        number = record.data.get("splits", {}).get(split, {}).get("examples")
        if isinstance(number, int):
            numbers.add(number)
    return [counted(sorted(numbers), f"{split} example")] if numbers else []


def counted(numbers: Sequence[int], noun: str) -> str:
    """``3 seeds``, ``2 to 3 seeds``; nothing for no number."""
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    shown = f"{low:,d}" if low == high else f"{low:,d} to {high:,d}"
    return f"{shown} {noun}{'' if high == 1 else 's'}"


def spelled_name(cell: Cell) -> str:
    """``LoRA q,v r=8``, ``DoRA q,v r=7``, ``prefix m=16``."""
    return f"{full_family_of(cell.spec, spell)} {cell.size_text}".rstrip()


def _loss_unit(table: Table) -> str:
    cells = [*table.ranked, *(problem.cell for problem in table.problems)]
    kinds = {cell.spec.task.kind for cell in cells}
    if kinds and kinds <= TEXT_KINDS:
        return "nats per token"
    return "squared units of the label" if kinds == {"regression"} else "nats per example"
