from __future__ import annotations

import dataclasses

import pytest

from src.comparison import Findings
from src.comparison.find import differences_from
from src.comparison.further import further_metrics
from src.comparison.methods import methods_at_one_budget
from src.statistics import holm, paired_test
from tests.plots.studies import findings_of, grid_of_runs, method_run, run
from tests.plots.studies import methods_at_one_budget as study
from tests.record_factory import make_record, make_spec


def scores_of(findings: Findings, place: int) -> list[float]:
    records = findings.contenders[place].choice.cell.records
    return [(record.metrics.test or {})["accuracy"] or 0.0 for record in records]


def test_each_method_of_the_budget_is_held_against_lora() -> None:
    compared = methods_at_one_budget(findings_of(*study()))
    assert compared is not None and compared.given and compared.budget == 73_728
    assert [method.name for method in compared.members][:3] == ["LoRA", "DoRA", "rsLoRA"]
    assert [method.name for method in compared.references] == ["full fine-tuning", "BitFit", "head only"]
    assert compared.lora is compared.members[0] and compared.lora.difference is None
    tested = [*compared.members[1:], *compared.references[:2]]
    assert all(method.difference is not None and method.difference.pairs == 3 for method in tested)
    assert compared.references[-1].difference is None


def test_differences_from_a_reference_are_corrected_over_these_comparisons_alone() -> None:
    """With two configurations the pooled variance is their own, so that it is the plain paired t test."""
    findings = findings_of(
        *(run("qv", 4, score, seed=seed) for seed, score in enumerate([0.90, 0.91, 0.92, 0.93])),
        *(run("q", 4, score, seed=seed) for seed, score in enumerate([0.904, 0.905, 0.922, 0.926])),
    )
    reference, other = findings.contenders
    (difference,) = differences_from(findings, reference, [other])
    gains = [b - a for a, b in zip(scores_of(findings, 0), scores_of(findings, 1), strict=True)]
    expected = paired_test(gains, margin=findings.margin, level=0.05)
    assert difference is not None and expected is not None
    assert (difference.p, difference.p_holm) == pytest.approx((expected.p, expected.p))
    many = findings_of(*study())
    lora, *others = many.contenders
    found = [difference for difference in differences_from(many, lora, others) if difference]
    assert [difference.p_holm for difference in found] == pytest.approx(list(holm([d.p for d in found])))


def test_plain_lora_alone_has_nothing_to_compare() -> None:
    assert methods_at_one_budget(findings_of(*grid_of_runs())) is None
    assert methods_at_one_budget(findings_of(run("qv", 4, 0.9), method_run(0.9, method__name="full"))) is None
    budget = method_run(0.9, lora__rank=None, lora__budget=9216)
    beside = methods_at_one_budget(findings_of(budget, method_run(0.9, method__name="full")))
    assert beside is not None and [len(beside.members), len(beside.references)] == [1, 1]


def test_without_lora_or_a_second_seed_there_are_scores_and_no_differences() -> None:
    without = [record for record in study() if "lora" not in str(record.spec["method"]["name"])]
    for findings in (findings_of(*without), findings_of(*study(seeds=1))):
        compared = methods_at_one_budget(findings)
        assert compared is not None
        assert all(method.difference is None for method in (*compared.members, *compared.references))


def test_equal_numbers_of_parameters_take_the_place_of_a_budget() -> None:
    prefix = method_run(0.9, method__name="prefix", method__size=16)
    compared = methods_at_one_budget(findings_of(prefix, method_run(0.8, method__name="adapter_h", method__size=16)))
    assert compared is not None and (compared.given, compared.budget) == (False, 16 * 4608)


def test_further_scores_are_means_over_the_seeds_that_all_have_them() -> None:
    records = []
    for seed in range(2):
        record = make_record(make_spec("qv", 4, seed=seed))
        test = {"accuracy": 0.8, "bleu": 30.0 + seed, "rougeL": None if seed else 0.5, "chrf": None}
        records.append(dataclasses.replace(record, metrics=dataclasses.replace(record.metrics, test=test)))
    (cell,) = findings_of(*records).table.ranked
    assert further_metrics([cell]) == ["bleu", "rougeL"]
    assert (cell.mean_on_test("bleu"), cell.mean_on_test("rougeL")) == (30.5, None)
