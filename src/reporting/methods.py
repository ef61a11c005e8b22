"""Sentences on methods: what one budget brings with each, and the intrinsic dimension."""

from __future__ import annotations

from collections.abc import Sequence

from src.comparison.findings import Findings
from src.comparison.intrinsic import SHARE, IntrinsicDimension, intrinsic_dimensions
from src.comparison.method import LORA
from src.comparison.methods import OneBudget, Rival, methods_at_one_budget
from src.records.text import MISSING, show

PERCENT = f"{100 * SHARE:g} %"


def one_budget(findings: Findings) -> list[str]:
    """Which methods are shown to differ from plain LoRA at one budget; nothing where no two share one."""
    compared = methods_at_one_budget(findings)
    if compared is None:
        return []
    scores = ", ".join(f"{_name(rival)} {_score(rival)}" for rival in compared.members)
    return [f"Methods at one budget, {budget_words(compared)}: {scores}{_verdicts(findings, compared)}."]


def budget_words(compared: OneBudget) -> str:
    """``at most 73,728 trained parameters`` where a budget was given."""
    return f"{'at most ' if compared.given else ''}{compared.budget:,d} trained parameters"


def intrinsic_dimension(findings: Findings) -> list[str]:
    """d90 of each projection, or why there is none; nothing where no random subspace was trained."""
    return [f"Intrinsic dimension, {each.method}: {_d90(findings, each)}." for each in intrinsic_dimensions(findings)]


def _name(rival: Rival) -> str:
    """With the method also where it is plain LoRA: ``LoRA qv r=8``."""
    name = rival.contender.choice.cell.name
    return f"{LORA} {name}" if rival.method == LORA else name


def _score(rival: Rival) -> str:
    test = rival.contender.test
    return show(test.mean, "score") if test else f"{show(rival.contender.validation.mean, 'score')} (validation)"


def _verdicts(findings: Findings, compared: OneBudget) -> str:
    tested = [rival for rival in (*compared.members, *compared.references) if rival.difference]
    if compared.lora is None:
        return "; LoRA itself is not among them, so nothing is held against it"
    if not tested:
        return "; with fewer than two seeds in common nothing is tested"
    clauses = []
    for word, sign in (("better", 1), ("worse", -1)):
        names = [r.method for r in tested if r.difference and r.difference.mean * sign > 0 and _apart(findings, r)]
        clauses += [f"shown to be {word} than LoRA: {_listed(names)}"] if names else []
    same = [rival.method for rival in tested if not _apart(findings, rival)]
    clauses += [f"not told apart from LoRA: {_listed(same)}"] if same else []
    return f"; on test, with Holm's correction, {'; '.join(clauses)}"


def _apart(findings: Findings, rival: Rival) -> bool:
    return rival.difference is not None and rival.difference.p_holm < findings.level


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _d90(findings: Findings, found: IntrinsicDimension) -> str:
    metric = findings.table.metric
    if found.full_score is None:
        return f"missing, as full fine-tuning (method=full), of which d90 is {PERCENT}, has no score yet"
    if findings.table.lower_is_better:
        return f"d90 is not defined for {metric}, of which lower is better{_of_gain(found)}"
    if found.threshold is None:
        return f"d90 is not defined, as full fine-tuning's {metric} is not above 0{_of_gain(found)}"
    against = (
        f"{PERCENT} of full fine-tuning's {found.split} {metric} ({show(found.threshold, 'score')} of "
        f"{show(found.full_score, 'score')}{_lost_seeds(found)})"
    )
    reaching = next((subspace for subspace in found.subspaces if subspace.reaches), None)
    if reaching is None:
        return f"no d up to {_largest(found)} reaches {against}, so d90 lies above{_head(found)}"
    lowest = "the smallest d that was tried, so d90 may be lower" if reaching is found.subspaces[0] else ""
    told = f"d90 = {reaching.d:,d}, the smallest d tried whose mean score ({show(reaching.score, 'score')}) reaches"
    return f"{told} {against}{f'; it is {lowest}' if lowest else ''}{_head(found)}"


def _head(found: IntrinsicDimension) -> str:
    """Where the head alone comes as far, d90 says nothing of what has to be adapted."""
    if not found.head_reaches:
        return ""
    told = f"; but the head alone reaches it too ({show(found.head_score, 'score')}), so d90 says little here"
    return f"{told}{_of_gain(found)}"


def _of_gain(found: IntrinsicDimension) -> str:
    if found.gain_threshold is None:
        return ""
    gain = f"{PERCENT} of what full fine-tuning gains over the head alone ({show(found.gain_threshold, 'score')})"
    if found.d90_of_gain is None:
        return f"; {gain} is reached by no d up to {_largest(found)}"
    return f"; {gain} is reached at d = {found.d90_of_gain:,d}"


def _largest(found: IntrinsicDimension) -> str:
    return f"{found.subspaces[-1].d:,d}" if found.subspaces else MISSING


def _lost_seeds(found: IntrinsicDimension) -> str:
    assert found.full is not None
    cell = found.full.choice.cell
    return "" if cell.whole else f", from {cell.seeds} seeds"
