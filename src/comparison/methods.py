"""Methods held against plain LoRA at one budget, beside references that have no size to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.comparison.find import differences_from
from src.comparison.findings import Contender, Difference, Findings
from src.comparison.groups import at_one_budget
from src.comparison.method import HEAD, LORA
from src.spec import UNFROZEN

FEWEST = 2


@dataclass(frozen=True)
class ComparedMethod:
    """A method, or a reference, at its best.

    Attributes:
        difference: from plain LoRA on test, corrected over all that are held against it; None for LoRA itself,
            and where fewer than two seeds pair or there is no LoRA.
    """

    contender: Contender
    difference: Difference | None

    @property
    def name(self) -> str:
        return self.contender.choice.cell.method


@dataclass(frozen=True)
class OneBudget:
    """Attributes:
    budget: trained parameters besides the head.
    given: whether it was asked for; else the methods happen to have equally many.
    members: of the budget, each method at its best by validation, best first.
    references: full fine-tuning, BitFit and the head alone, whatever their size.
    """

    budget: int
    given: bool
    members: tuple[ComparedMethod, ...]
    references: tuple[ComparedMethod, ...]

    @property
    def lora(self) -> ComparedMethod | None:
        """What the others are held against."""
        return next((method for method in self.members if method.name == LORA), None)


def methods_at_one_budget(findings: Findings) -> OneBudget | None:
    """The budget with the most methods; None where no two methods share one, and none was given beside a reference."""
    sized = [c for c in findings.contenders if _is_sized(c)]
    budget, members = at_one_budget(sized, lambda cell: cell.method)
    references = _first_of_each([c for c in findings.contenders if not _is_sized(c)])
    given = any(contender.choice.cell.spec.lora.budget is not None for contender in members)
    if len(members) < FEWEST and not (members and references and given):
        return None
    references += [findings.baseline] if findings.baseline else []
    compared = _against_lora(findings, members, references)
    return OneBudget(budget, given, tuple(compared[: len(members)]), tuple(compared[len(members) :]))


def _is_sized(contender: Contender) -> bool:
    return contender.choice.cell.spec.method.name not in UNFROZEN


def _first_of_each(contenders: Sequence[Contender]) -> list[Contender]:
    """The best by validation of each method."""
    found: dict[str, Contender] = {}
    for contender in contenders:
        found.setdefault(contender.choice.cell.method, contender)
    return list(found.values())


def _against_lora(
    findings: Findings, members: Sequence[Contender], references: Sequence[Contender]
) -> list[ComparedMethod]:
    """Differences are corrected over all that is held against LoRA but the head alone, which only shows the scale."""
    everyone = [*members, *references]
    lora = next((c for c in members if c.choice.cell.method == LORA), None)
    others = [c for c in everyone if c is not lora and c.choice.cell.method != HEAD]
    differences = differences_from(findings, lora, others) if lora else [None] * len(others)
    known = {id(contender): difference for contender, difference in zip(others, differences, strict=True)}
    return [ComparedMethod(contender, known.get(id(contender))) for contender in everyone]
