from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.stats

from src.comparison import Contender, Findings, find, no_examples
from src.records import RunRecord
from src.records.examples import Examples
from tests.comparison.simulated import Truth
from tests.record_factory import make_record, make_spec, one_table

Scores = dict[tuple[str, int], list[float]]


def records(scores: Scores, **changes: object) -> list[RunRecord]:
    """Validation and test alike; one record for each seed."""
    return [
        make_record(make_spec(targets, rank, seed=seed, **changes), score, score)
        for (targets, rank), values in scores.items()
        for seed, score in enumerate(values)
    ]


def found(scores: Scores, margin: float = 0.01, **changes: object) -> Findings:
    return find(one_table(*records(scores, **changes)), no_examples, margin=margin)


def by_label(findings: Findings) -> dict[str, Contender]:
    return {contender.label: contender for contender in findings.contenders}


THREE: Scores = {
    ("qv", 4): [0.90, 0.91, 0.92, 0.93],
    ("q", 4): [0.904, 0.905, 0.922, 0.926],
    ("k", 4): [0.80, 0.812, 0.821, 0.831],
}


def test_two_configurations_are_compared_by_the_paired_t_test() -> None:
    ours, theirs = THREE["q", 4], THREE["qv", 4]
    findings = found({key: THREE[key] for key in [("q", 4), ("qv", 4)]})
    difference = by_label(findings)["q r=4"].difference
    expected = scipy.stats.ttest_rel(ours, theirs)
    assert difference is not None and difference.interval is not None
    assert (difference.mean, difference.pairs) == (pytest.approx(np.mean(ours) - np.mean(theirs)), 4)
    assert (difference.p, difference.p_holm) == pytest.approx((expected.pvalue, expected.pvalue))
    assert (difference.interval.low, difference.interval.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert findings.best is not None and findings.best.label == "qv r=4" and findings.best.difference is None


def test_p_values_are_corrected_over_all_pairs() -> None:
    """Three pairs: k is worse than both others, and qv and q are as they are alone."""
    findings = by_label(found(THREE))
    q, k = findings["q r=4"].difference, findings["k r=4"].difference
    assert q is not None and k is not None
    assert k.p < k.p_holm <= 3 * k.p
    assert q.p_holm == pytest.approx(q.p)
    assert (findings["qv r=4"].place, findings["q r=4"].place, findings["k r=4"].place) == (1, 1, 2)
    assert k.p_inferior_holm == pytest.approx(1.0)
    assert q.p_inferior_holm == pytest.approx(2 * q.p_inferior)


def test_a_lower_loss_is_a_positive_difference() -> None:
    losses = {key: [1 - value for value in values] for key, values in THREE.items()}
    findings, accuracies = found(losses, task__metric="loss"), found(THREE)
    assert [contender.label for contender in findings.contenders] == ["qv r=4", "q r=4", "k r=4"]
    for mine, theirs in zip(findings.contenders[1:], accuracies.contenders[1:], strict=True):
        assert mine.difference is not None and theirs.difference is not None
        assert mine.difference.mean == pytest.approx(theirs.difference.mean)
        assert mine.place == theirs.place


def test_the_best_is_chosen_on_validation_and_judged_on_test() -> None:
    table = one_table(
        *(make_record(make_spec("q", 1, seed=s), 0.9 + 0.001 * s, 0.8 - 0.001 * s) for s in range(5)),
        *(make_record(make_spec("v", 1, seed=s), 0.8 + 0.001 * s, 0.9 + 0.002 * s) for s in range(5)),
    )
    findings = find(table, no_examples, margin=0.01)
    assert findings.best is not None and findings.best.label == "q r=1"
    other = findings.contenders[1]
    assert other.difference is not None and other.difference.mean == pytest.approx(0.106)
    assert other.difference.p_holm < 0.05
    assert other.place == 1  # better on test is not worse


def test_what_suffices_is_the_smallest_rank_of_each_target_set() -> None:
    wiggle = np.array([0.0, 0.0004, -0.0004, 0.0008, -0.0008])
    scores: Scores = {
        ("qv", 64): list(0.900 + wiggle),
        ("qv", 4): list(0.899 + wiggle[::-1]),
        ("qv", 1): list(0.85 + wiggle),
        ("q", 8): list(0.898 + wiggle[[1, 0, 3, 2, 4]]),
        ("q", 2): list(0.888 + wiggle),
        ("k", 8): list(0.85 + wiggle),
    }
    findings = found(scores)
    assert {targets: c.label for targets, c in findings.sufficient.items()} == {"qv": "qv r=4", "q": "q r=8"}
    assert {targets: c.label for targets, c in found(scores, margin=0.0).sufficient.items()} == {"qv": "qv r=64"}


def test_one_seed_carries_no_interval_and_no_test() -> None:
    findings = found({key: values[:1] for key, values in THREE.items()})
    for contender in findings.contenders:
        assert contender.test is not None
        assert (contender.test.over_seeds, contender.difference, contender.place) == (None, None, 1)
    assert findings.sufficient == {}


def test_seeds_are_paired_by_their_number() -> None:
    q = [make_record(make_spec("q", 1, seed=s), 0.8, 0.80 + 0.01 * s) for s in (1, 2, 3)]
    v = [make_record(make_spec("v", 1, seed=s), 0.9, 0.85 + 0.01 * s + 0.001 * (s == 2)) for s in (0, 2, 1)]
    other = find(one_table(*q, *v), no_examples, margin=0.01).contenders[1]
    assert other.difference is not None
    assert (other.difference.pairs, other.difference.mean) == (2, pytest.approx(-0.0505))
    apart = [make_record(make_spec("v", 1, seed=s), 0.9) for s in (3, 4)]
    assert find(one_table(*q, *apart), no_examples, margin=0.01).contenders[1].difference is None


def test_a_seed_without_test_score_makes_the_estimate_missing_and_not_the_rest() -> None:
    q = [make_record(make_spec("q", 1, seed=s), 0.9, t) for s, t in enumerate([0.9, None, 0.91])]
    v = [make_record(make_spec("v", 1, seed=s), 0.8, t) for s, t in enumerate([0.8, 0.8, 0.82])]
    best, other = find(one_table(*q, *v), no_examples, margin=0.01).contenders
    assert best.test is None
    assert other.difference is not None and other.difference.pairs == 2


def test_survivors_of_a_lost_seed_do_not_suffice() -> None:
    scores: Scores = {("qv", 64): [0.9, 0.9011, 0.9004, 0.9], ("qv", 1): [0.9, 0.901, 0.9005, 0.9002]}
    lost = make_record(make_spec("qv", 1, seed=4), status="diverged")
    also = make_record(make_spec("qv", 64, seed=4), 0.9, 0.9)
    assert found(scores).sufficient["qv"].label == "qv r=1"
    findings = find(one_table(*records(scores), lost, also), no_examples, margin=0.01)
    assert findings.sufficient["qv"].label == "qv r=64"


def test_the_head_alone_stands_outside_the_family() -> None:
    heads = [make_record(make_spec("none", 1, seed=s), 0.7, 0.7 + 0.001 * s) for s in range(4)]
    findings = find(one_table(*records(THREE), *heads), no_examples, margin=0.01)
    assert [c.difference for c in findings.contenders] == [c.difference for c in found(THREE).contenders]
    head = findings.baseline
    assert head is not None and head.difference is not None
    assert (head.label, head.place) == ("none", None)
    assert head.difference.p_holm == pytest.approx(3 * head.difference.p)
    alone = find(one_table(*heads), no_examples, margin=0.01)
    assert (alone.contenders, alone.best, alone.sufficient) == ((), None, {})
    assert alone.baseline is not None and alone.baseline.difference is None


def test_labels_say_what_varies() -> None:
    both = [
        make_record(make_spec("qv", 4, lora__dropout=dropout, optim__lr=lr), 0.9)
        for dropout in (0.0, 0.1)
        for lr in (0.001, 0.003)
    ]
    labels = {contender.label for contender in find(one_table(*both), no_examples, margin=0.01).contenders}
    assert labels == {"qv r=4 (dropout 0)", "qv r=4 (dropout 0.1)"}


def with_examples(metric: str = "accuracy") -> tuple[list[RunRecord], dict[str, Examples]]:
    rng = np.random.default_rng(0)
    target = np.arange(400) % 2
    all_records, examples = [], {}
    for seed in range(2):
        right = rng.random(400) < 0.9
        record = make_record(make_spec("qv", 4, seed=seed, task__metric=metric), 0.9, float(right.mean()))
        prediction = np.where(right, target, 1 - target)
        examples[record.run_id] = Examples({"prediction": prediction * 1.0, "target": target * 1.0})
        all_records.append(record)
    return all_records, examples


def test_the_interval_over_examples_resamples_them_jointly_over_seeds() -> None:
    all_records, examples = with_examples()
    (contender,) = find(one_table(*all_records), lambda r: examples.get(r.run_id), margin=0.01).contenders
    means = np.mean([e.columns["prediction"] == e.columns["target"] for e in examples.values()], axis=0)
    half = 1.96 * means.std() / 20
    estimate = contender.test
    assert estimate is not None and estimate.over_examples is not None
    assert (estimate.over_examples.low, estimate.over_examples.high) == pytest.approx(
        (estimate.mean - half, estimate.mean + half), abs=0.1 * half
    )
    assert (estimate.examples, estimate.seeds) == (400, 2)


def test_examples_that_do_not_give_the_recorded_score_are_not_used() -> None:
    all_records, examples = with_examples()
    stale = dict(zip(examples, list(examples.values())[::-1], strict=True))
    for some in (stale, {all_records[0].run_id: examples[all_records[0].run_id]}, {}):
        (contender,) = find(one_table(*all_records), lambda r, s=some: s.get(r.run_id), margin=0.01).contenders
        assert contender.test is not None
        assert (contender.test.over_examples, contender.test.examples) == (None, None)


def test_a_loss_is_resampled_as_sums_over_tokens() -> None:
    loss, tokens = np.array([2.0, 6.0, 1.0, 3.0] * 50), np.array([1.0, 2.0, 1.0, 4.0] * 50)
    for metric, score in (("loss", 1.5), ("perplexity", float(np.exp(1.5)))):
        spec = make_spec(task__kind="causal_lm", task__metric=metric, task__prompt="{a}", task__completion="{b}")
        table = one_table(make_record(spec, score, score))
        kept = Examples({"loss": loss, "tokens": tokens})
        (contender,) = find(table, lambda _, kept=kept: kept, margin=0.01).contenders
        assert contender.test is not None and contender.test.over_examples is not None
        assert contender.test.over_examples.low < score < contender.test.over_examples.high


def rate_of_errors(truth: Truth, studies: int, wrong: Callable[[Findings], bool]) -> float:
    skeleton, rng = truth.skeleton(), np.random.default_rng(0)
    return float(np.mean([wrong(find(truth.fill(skeleton, rng), no_examples, margin=0.01)) for _ in range(studies)]))


def at_most_alpha(studies: int) -> float:
    return 0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5


def tells_apart(findings: Findings) -> bool:
    differences = [c.difference for c in findings.contenders if c.difference]
    return any(c.place != 1 for c in findings.contenders) or any(d.p_holm < 0.05 for d in differences)


EQUAL = {(targets, rank): 0.9 for targets in ("q", "qv", "qkvo") for rank in (1, 8)}


@pytest.mark.parametrize(
    ("num_seeds", "shared", "noise"),
    [(3, 1.0, 0.005), (5, 0.5, 0.005), (4, 0.8, (0.004, 0.004, 0.004, 0.004, 0.008, 0.008))],
)
def test_equal_configurations_are_told_apart_at_most_as_often_as_stated(
    num_seeds: int, shared: float, noise: float | Sequence[float]
) -> None:
    """With learning rates and the best chosen on validation that shares the noise of test."""
    truth = Truth(EQUAL, num_seeds, noise, shared)
    assert rate_of_errors(truth, 400, tells_apart) <= at_most_alpha(400)


@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_a_rank_that_is_worse_by_the_margin_suffices_at_most_as_often_as_stated(noise: float) -> None:
    quality = dict.fromkeys(EQUAL, 0.89) | {("qkvo", 8): 0.9}

    def wrong(findings: Findings) -> bool:
        """Behind a best cell that was itself chosen wrongly stands no test, and no sentence says that it suffices."""
        return any(c.difference and c.label != "qkvo r=8" for c in findings.sufficient.values())

    assert rate_of_errors(Truth(quality, 4, noise), 400, wrong) <= at_most_alpha(400)


def test_real_differences_are_found_with_few_seeds() -> None:
    quality = dict.fromkeys(EQUAL, 0.9) | {("q", 1): 0.86, ("q", 8): 0.86}

    def missed(findings: Findings) -> bool:
        return {c.label for c in findings.contenders if c.place != 1} != {"q r=1", "q r=8"}

    def not_shown(findings: Findings) -> bool:
        return {t: c.label for t, c in findings.sufficient.items()} != {"qv": "qv r=1", "qkvo": "qkvo r=1"}

    assert rate_of_errors(Truth(quality, 3, 0.004), 100, missed) < 0.1
    assert rate_of_errors(Truth(quality, 5, 0.002), 100, not_shown) < 0.1
