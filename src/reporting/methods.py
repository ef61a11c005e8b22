"""Sentences on methods: what one budget brings with each, and the intrinsic dimension."""

from __future__ import annotations

from collections.abc import Sequence

from src.comparison.findings import Findings
from src.comparison.intrinsic import SHARE, IntrinsicDimension, intrinsic_dimensions
from src.comparison.method import HEAD
from src.comparison.methods import ComparedMethod, OneBudget, methods_at_one_budget
from src.records.text import show

PERCENT = f"{100 * SHARE:g} %"


def one_budget(findings: Findings) -> list[str]:
    """Scores by method, and which are shown to differ from plain LoRA at one budget; nothing where no two share one."""
    compared = methods_at_one_budget(findings)
    if compared is None:
        return []
    references = [method for method in compared.references if method.name != HEAD]
    split = "test" if all(method.contender.test for method in (*compared.members, *references)) else "validation"
    beside = f"; as references {_scores(findings, references, split)}" if references else ""
    return [
        f"Methods at one budget, {budget_words(compared)}, by {split} {findings.table.metric}: "
        f"{_scores(findings, compared.members, split)}{beside}{_verdicts(findings, compared)}."
    ]


def budget_words(compared: OneBudget) -> str:
    """``at most 73,728 trained parameters`` where a budget was given."""
    return f"{'at most ' if compared.given else ''}{compared.budget:,d} trained parameters"


def intrinsic_dimension(findings: Findings) -> list[str]:
    """d90 of each projection, or why there is none; nothing where no random subspace was trained."""
    return [f"Intrinsic dimension, {each.method}: {_d90(findings, each)}." for each in intrinsic_dimensions(findings)]


def _scores(findings: Findings, methods: Sequence[ComparedMethod], split: str) -> str:
    """``LoRA qv r=8 (0.9180), prefix m=16 (0.8980)``, best first."""
    contenders = [method.contender for method in methods]
    estimates = [(c.choice.cell.full_name, c.test if split == "test" else c.validation) for c in contenders]
    known = [(name, estimate.mean) for name, estimate in estimates if estimate]
    known.sort(key=lambda pair: pair[1], reverse=not findings.table.lower_is_better)
    return ", ".join(f"{name} ({show(mean, 'score')})" for name, mean in known)


def _verdicts(findings: Findings, compared: OneBudget) -> str:
    tested = [method for method in (*compared.members, *compared.references) if method.difference]
    if compared.lora is None:
        return "; LoRA itself is not among them, so nothing is held against it"
    if not tested:
        return "; with fewer than two seeds in common nothing is tested"
    clauses = []
    for word, sign in (("better", 1), ("worse", -1)):
        names = [m.name for m in tested if m.difference and m.difference.mean * sign > 0 and _apart(findings, m)]
        clauses += [f"shown to be {word} than LoRA: {_listed(names)}"] if names else []
    same = [method.name for method in tested if not _apart(findings, method)]
    clauses += [f"not told apart from LoRA: {_listed(same)}"] if same else []
    return f"; on test, with Holm's correction, {'; '.join(clauses)}"


def _apart(findings: Findings, method: ComparedMethod) -> bool:
    return method.difference is not None and method.difference.p_holm < findings.level


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
    judged = [subspace for subspace in found.subspaces if subspace.judged]
    reaching = next((subspace for subspace in judged if subspace.reaches), None)
    rest = f"{_left_out(found)}{_head(found)}"
    if not judged:
        return f"missing, as no d has all of its seeds to be held against {against}{rest}"
    if reaching is None:
        return f"no d up to {judged[-1].d:,d} reaches {against}, so d90 lies above{rest}"
    lowest = "; it is the smallest d that was tried, so d90 may be lower" if reaching is found.subspaces[0] else ""
    told = f"d90 = {reaching.d:,d}, the smallest d tried whose mean score ({show(reaching.score, 'score')}) reaches"
    return f"{told} {against}{lowest}{rest}"


def _left_out(found: IntrinsicDimension) -> str:
    """What lost seeds where full fine-tuning did not; it may hide a smaller d90."""
    cells = [(subspace.d, subspace.contender.choice.cell) for subspace in found.subspaces if not subspace.judged]
    if not cells:
        return ""
    listed = _listed([f"d = {d:,d} ({cell.seeds} seeds)" for d, cell in cells])
    lower = ", so d90 may be lower" if found.d90 is not None and cells[0][0] < found.d90 else ""
    return f"; not judged, as not all seeds completed: {listed}{lower}"


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
        judged = [subspace.d for subspace in found.subspaces if subspace.judged]
        return f"; {gain} is reached by no d up to {judged[-1]:,d}" if judged else ""
    return f"; {gain} is reached at d = {found.d90_of_gain:,d}"


def _lost_seeds(found: IntrinsicDimension) -> str:
    assert found.full is not None
    cell = found.full.choice.cell
    return "" if cell.whole else f", from {cell.seeds} seeds"
