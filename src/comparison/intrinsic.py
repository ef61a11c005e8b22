"""The intrinsic dimension d90 (Aghajanyan et al. 2020, arXiv 2012.13255, section 3).

It is the smallest d for which training in a random subspace of d dimensions reaches 90 % of full fine-tuning's score.
Both take part at the learning rate that validation chose; their scores are means over seeds on test, or on validation
for all where one of them has none on test. A d that has lost seeds is not judged by those that survived, unless full
fine-tuning has lost some too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.comparison.findings import Contender, Findings
from src.comparison.method import FULL

SHARE = 0.9
FEWEST = 2
ROUNDING = 1e-9


@dataclass(frozen=True)
class Subspace:
    """Attributes:
    d: dimensions, all that is trained besides the head.
    score: mean over seeds.
    judged: whether it can be held against full fine-tuning: it has all of its seeds, or neither has.
    reaches: whether it comes up to the threshold; None where there is none, and where it is not judged.
    reaches_gain: the same for the gain over the head alone.
    """

    contender: Contender
    d: int
    score: float
    judged: bool
    reaches: bool | None
    reaches_gain: bool | None


@dataclass(frozen=True)
class IntrinsicDimension:
    """Attributes:
    method: the projection, SAID or DID.
    split: of all scores, those of other projections too: ``test`` or ``validation``.
    full, head: full fine-tuning and the head alone; None where they have no score.
    full_score, head_score: on the split.
    threshold: 90 % of full fine-tuning's score; None where that has no meaning: it is missing, not above 0, or lower is
        better.
    gain_threshold: the head's score and 90 % of what full fine-tuning gains over it; None where one is missing or full
        fine-tuning gains nothing. It is no figure of the paper's, but says something where the head alone comes near.
    subspaces: by rising d.
    """

    method: str
    split: str
    full: Contender | None
    full_score: float | None
    head_score: float | None
    threshold: float | None
    gain_threshold: float | None
    subspaces: tuple[Subspace, ...]

    @property
    def d90(self) -> int | None:
        """The smallest d that reaches the threshold."""
        return next((subspace.d for subspace in self.subspaces if subspace.reaches), None)

    @property
    def d90_of_gain(self) -> int | None:
        """The smallest d that reaches the threshold of the gain."""
        return next((subspace.d for subspace in self.subspaces if subspace.reaches_gain), None)

    @property
    def head_reaches(self) -> bool:
        """Then d90 says nothing about adaptation."""
        return bool(_at_least(self.head_score, self.threshold, 1.0))


def intrinsic_dimensions(findings: Findings) -> tuple[IntrinsicDimension, ...]:
    """One for each projection of which at least two sizes have a score, as one alone has no smallest."""
    lines: dict[str, dict[int, Contender]] = {}
    for contender in findings.contenders:
        cell = contender.choice.cell
        if cell.spec.method.name == "random_subspace" and cell.method_size is not None:
            lines.setdefault(cell.method, {}).setdefault(cell.method_size, contender)
    curves = {method: line for method, line in sorted(lines.items()) if len(line) >= FEWEST}
    full = next((c for c in findings.contenders if c.choice.cell.method == FULL), None)
    split = _split([*(c for line in curves.values() for c in line.values()), *([full] if full else [])])
    return tuple(_dimension(findings, method, line, full, split) for method, line in curves.items())


def _dimension(
    findings: Findings, method: str, line: dict[int, Contender], full: Contender | None, split: str
) -> IntrinsicDimension:
    full_score, head_score = _score(full, split), _score(findings.baseline, split)
    sign = -1.0 if findings.table.lower_is_better else 1.0
    threshold = SHARE * full_score if full_score is not None and full_score > 0 and sign > 0 else None
    gain = _gain_threshold(full_score, head_score, sign)
    subspaces = []
    for d, contender in sorted(line.items()):
        score = _score(contender, split)
        if score is not None:
            judged = contender.choice.cell.whole or full is None or not full.choice.cell.whole
            reaches, reaches_gain = (_at_least(score, least, sign) if judged else None for least in (threshold, gain))
            subspaces.append(Subspace(contender, d, score, judged, reaches, reaches_gain))
    return IntrinsicDimension(method, split, full, full_score, head_score, threshold, gain, tuple(subspaces))


def _split(contenders: Sequence[Contender]) -> str:
    return "test" if all(contender.test is not None for contender in contenders) else "validation"


def _score(contender: Contender | None, split: str) -> float | None:
    if contender is None:
        return None
    estimate = contender.test if split == "test" else contender.validation
    return None if estimate is None else estimate.mean


def _gain_threshold(full: float | None, head: float | None, sign: float) -> float | None:
    if full is None or head is None or sign * (full - head) <= 0:
        return None
    return head + SHARE * (full - head)


def _at_least(score: float | None, threshold: float | None, sign: float) -> bool | None:
    return None if score is None or threshold is None else sign * (score - threshold) >= -ROUNDING
