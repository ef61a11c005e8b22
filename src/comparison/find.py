"""From a table to its findings: estimates, paired differences, a ranking with ties, and the ranks that suffice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from src.comparison.cells import Cell
from src.comparison.choose import Choice, best_of, choose
from src.comparison.findings import Contender, Difference, Estimate, Findings
from src.comparison.pairs import Scores, all_pairs
from src.comparison.sampling import ExamplesOf, sampling_intervals
from src.comparison.table import Table
from src.statistics import PairedTest, Spread, holm, paired_test, places, pooled_spread, t_interval


def find(table: Table, examples_of: ExamplesOf, *, margin: float, level: float = 0.05) -> Findings:
    """What the table's records support.

    The learning rate of each configuration and the best configuration are chosen on validation; estimates,
    differences, places and what suffices rest on test. Differences are paired by seed, over the seeds that both have.

    Args:
        examples_of: test examples of a run, None where there are none.
        margin: of non-inferiority, in the metric's unit; at least 0.
        level: of the family-wise error.
    """
    choices = choose(table)
    heads = [cell for cell in table.ranked if not cell.adapted]
    head = Choice(best_of(heads), frozenset()) if heads else None
    shown = [*choices, head] if head else choices
    scores = [_by_seed(choice.cell) for choice in shown]
    tests = _test_estimates(table, [choice.cell for choice in shown], scores, examples_of, level)
    against_best, place = _compare(table, scores[: len(choices)], margin, level)

    def contender(choice: Choice, test: Estimate | None, difference: Difference | None, at: int | None) -> Contender:
        name = table.configuration_label(choice.cell)
        return Contender(choice, name, _validation(choice.cell, level), test, difference, at)

    contenders = tuple(map(contender, choices, tests, against_best, place))
    difference = _head_difference(table, scores, margin, level) if head and choices else None
    baseline = contender(head, tests[-1], difference, None) if head else None
    return Findings(table, contenders, baseline, margin, level, _sufficient(contenders, level))


def differences_from(findings: Findings, reference: Contender, others: Sequence[Contender]) -> list[Difference | None]:
    """Each minus the reference on test, paired by seed and corrected over these comparisons alone.

    The reference has to be named beforehand: it is not the one that came out best.
    """
    table, level = findings.table, findings.level
    scores = [_by_seed(contender.choice.cell) for contender in (reference, *others)]
    tests = _against_first(table, scores, _pooled(scores), findings.margin, level)
    p_holm = _holm_of_known([None if test is None else test.p for test in tests])
    p_inferior = _holm_of_known([None if test is None else test.p_inferior for test in tests])
    return [
        None if test is None or p is None or inferior is None else _difference(test, p, inferior)
        for test, p, inferior in zip(tests, p_holm, p_inferior, strict=True)
    ]


def find_all(
    tables: Sequence[Table], examples_of: ExamplesOf, *, margin: float, level: float = 0.05
) -> tuple[Findings, ...]:
    """`find` for each table of a study."""
    return tuple(find(table, examples_of, margin=margin, level=level) for table in tables)


def _validation(cell: Cell, level: float) -> Estimate:
    metric = cell.spec.task.metric
    values = [score for r in cell.scored if (score := (r.metrics.validation or {}).get(metric)) is not None]
    assert cell.validation is not None
    return Estimate(cell.validation, len(values), t_interval(values, level), None)


def _test_estimates(
    table: Table, cells: Sequence[Cell], scores: Sequence[Scores], examples_of: ExamplesOf, level: float
) -> list[Estimate | None]:
    sampling = sampling_intervals(cells, table.metric, examples_of, level)
    return [
        None if cell.test is None else Estimate(cell.test, len(own), t_interval(list(own.values()), level), *interval)
        for cell, own, interval in zip(cells, scores, sampling, strict=True)
    ]


def _by_seed(cell: Cell) -> Scores:
    """Test scores of the seeds that count."""
    metric = cell.spec.task.metric
    scores = {record.run_spec().seed: (record.metrics.test or {}).get(metric) for record in cell.scored}
    return {seed: score for seed, score in scores.items() if score is not None}


def _gains(table: Table, scores: Scores, others: Scores) -> list[float]:
    """The first minus the second over the seeds of both, signed so that positive is better."""
    sign = _sign(table)
    return [sign * (scores[seed] - others[seed]) for seed in sorted(scores.keys() & others.keys())]


def _sign(table: Table) -> float:
    return -1.0 if table.lower_is_better else 1.0


def _pooled(scores: Sequence[Scores]) -> Spread | None:
    """Over the cells with the seeds of the best."""
    alike = [own for own in scores if own.keys() == scores[0].keys()]
    return pooled_spread([[own[seed] for seed in sorted(own)] for own in alike])


def _against_first(
    table: Table, scores: Sequence[Scores], pooled: Spread | None, margin: float, level: float
) -> list[PairedTest | None]:
    """The test of each but the first minus the first; None where they share fewer than two seeds."""
    return [
        paired_test(
            _gains(table, own, scores[0]),
            margin=margin,
            level=level,
            pooled=pooled if own.keys() == scores[0].keys() else None,
        )
        for own in scores[1:]
    ]


def _compare(
    table: Table, scores: Sequence[Scores], margin: float, level: float
) -> tuple[list[Difference | None], list[int]]:
    """Each configuration's difference from the first, and its place among all."""
    if not scores:
        return [], []
    pooled = _pooled(scores)
    pairs = all_pairs(scores, pooled, _sign(table), level)
    tests = _against_first(table, scores, pooled, margin, level)
    p_inferior = _holm_of_known([None if test is None else test.p_inferior for test in tests])
    differences = [
        None if test is None or corrected is None else _difference(test, float(p_holm), corrected)
        for test, p_holm, corrected in zip(tests, pairs.p_holm_first, p_inferior, strict=True)
    ]
    return [None, *differences], places(len(scores), pairs.worse)


def _holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over those that there are."""
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]


def _difference(test: PairedTest, p_holm: float, p_inferior_holm: float) -> Difference:
    return Difference(test.mean, test.pairs, test.interval, test.p, p_holm, test.p_inferior, p_inferior_holm)


def _head_difference(table: Table, scores: Sequence[Scores], margin: float, level: float) -> Difference | None:
    """The last, the head's, against the first: any but the last could have turned out to be the best, so p values are
    multiplied by their number."""
    test = paired_test(_gains(table, scores[-1], scores[0]), margin=margin, level=level)
    if test is None:
        return None
    number = len(scores) - 1
    return _difference(test, min(1.0, number * test.p), min(1.0, number * test.p_inferior))


def _sufficient(contenders: Sequence[Contender], level: float) -> dict[str, Contender]:
    if not contenders or contenders[0].test is None or contenders[0].test.seeds < 2:
        return {}
    best = contenders[0]
    members: dict[str, list[Contender]] = defaultdict(list)
    for contender in contenders:
        difference = contender.difference
        shown = difference is not None and difference.p_inferior_holm < level
        comparable = contender.choice.cell.whole or not best.choice.cell.whole
        if contender is best or (shown and comparable):
            members[contender.choice.cell.family].append(contender)
    return {family: min(those, key=lambda contender: contender.choice.cell.size) for family, those in members.items()}
