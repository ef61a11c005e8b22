from __future__ import annotations

import pytest

from src.comparison.intrinsic import IntrinsicDimension, intrinsic_dimensions
from src.records import RunRecord
from tests.plots.studies import findings_of, method_run, run, subspaces
from tests.record_factory import make_record, make_spec


def dimension(*records: RunRecord) -> IntrinsicDimension:
    (found,) = intrinsic_dimensions(findings_of(*records))
    return found


def test_d90_is_the_smallest_d_whose_mean_reaches_nine_tenths_of_full_fine_tuning() -> None:
    found = dimension(*subspaces(full=0.88))
    assert (found.split, found.method) == ("test", "random subspace (SAID)")
    assert found.full_score == pytest.approx(0.881) and found.threshold == pytest.approx(0.9 * 0.881)
    assert [(s.d, s.reaches) for s in found.subspaces] == [(64, False), (256, False), (1024, True), (4096, True)]
    assert found.d90 == 1024


@pytest.mark.parametrize("tenth", [0.63, 0.9 * 0.7])
def test_a_score_that_equals_the_threshold_but_for_rounding_reaches_it(tenth: float) -> None:
    records = [
        method_run(0.7, method__name="full"),
        method_run(0.2, method__name="random_subspace", method__size=8),
        method_run(tenth, method__name="random_subspace", method__size=16),
    ]
    assert dimension(*records).d90 == 16


def test_full_fine_tuning_and_each_d_take_part_at_the_rate_that_validation_chose() -> None:
    """The better test score lies at the rate that validation did not choose."""
    spec = {"method__name": "full"}
    chosen = make_record(make_spec(optim__lr=1e-4, **spec), 0.9, 0.5)
    passed_over = make_record(make_spec(optim__lr=1e-3, **spec), 0.8, 0.9)
    found = dimension(chosen, passed_over, *subspaces(full=None, seeds=1))
    assert found.full_score == 0.5 and found.d90 == 64


def test_without_full_fine_tuning_or_a_d_that_reaches_it_d90_is_missing() -> None:
    assert dimension(*subspaces(full=None)).d90 is None
    assert dimension(*subspaces(full=None)).threshold is None
    assert dimension(*subspaces((64, 256))).d90 is None
    failed = make_record(make_spec(method__name="full"), status="failed")
    assert dimension(*subspaces(full=None), failed).full is None


def test_a_metric_of_which_lower_is_better_has_no_d90() -> None:
    losses = [
        make_record(make_spec(task__metric="loss", method__name="random_subspace", method__size=d), loss, loss)
        for d, loss in ((8, 0.9), (64, 0.52))
    ]
    full = make_record(make_spec(task__metric="loss", method__name="full"), 0.5, 0.5)
    head = make_record(make_spec("none", None, task__metric="loss"), 1.0, 1.0)
    found = dimension(*losses, full, head)
    assert (found.d90, found.threshold) == (None, None)
    assert (found.gain_threshold, found.d90_of_gain) == (pytest.approx(0.55), 64)


def test_a_score_that_is_not_above_zero_has_no_nine_tenths() -> None:
    specs = [make_spec(task__metric="matthews", method__name="random_subspace", method__size=d) for d in (8, 64)]
    full = make_record(make_spec(task__metric="matthews", method__name="full"), -0.1, -0.1)
    assert dimension(*(make_record(spec, -0.05, -0.05) for spec in specs), full).d90 is None


def test_a_head_that_reaches_it_alone_is_noticed() -> None:
    heads = [run("none", 1, 0.85, seed=seed) for seed in range(3)]
    found = dimension(*subspaces(), *heads)
    assert found.head_reaches and found.gain_threshold == pytest.approx(0.85 + 0.9 * (0.901 - 0.85))
    assert found.d90_of_gain == 4096
    assert not dimension(*subspaces(), run("none", 1, 0.5)).head_reaches


def test_validation_takes_the_place_of_a_missing_test() -> None:
    records = [
        make_record(make_spec(method__name="random_subspace", method__size=d), 0.8 + d / 1000, None) for d in (8, 64)
    ]
    found = dimension(*records, make_record(make_spec(method__name="full"), 0.9, 0.1))
    assert (found.split, found.full_score, found.d90) == ("validation", 0.9, 64)


def test_projections_have_a_dimension_each_and_a_single_d_none() -> None:
    did = [method_run(0.1 * n, method__name="random_subspace", method__size=n, method__said=False) for n in (7, 8)]
    found = intrinsic_dimensions(findings_of(*subspaces(), *did))
    assert [each.method for each in found] == ["random subspace (DID)", "random subspace (SAID)"]
    assert intrinsic_dimensions(findings_of(*subspaces((64,)))) == ()


def lost(d: int) -> RunRecord:
    return make_record(make_spec(method__name="random_subspace", method__size=d, seed=9), status="diverged")


def test_a_d_that_lost_seeds_does_not_give_d90_where_full_fine_tuning_is_whole() -> None:
    also = method_run(0.889, seed=9, lr=1e-4, method__name="full")
    found = dimension(*subspaces(full=0.88), run("none", 1, 0.5), also, lost(1024))
    assert [(s.d, s.judged, s.reaches) for s in found.subspaces][2:] == [(1024, False, None), (4096, True, True)]
    assert found.d90 == 4096 and found.subspaces[2].reaches_gain is None
    equal = make_record(make_spec(method__name="full", seed=9, optim__lr=1e-4), status="diverged")
    assert dimension(*subspaces(full=0.88), equal, lost(1024)).d90 == 1024


def test_projections_share_one_split() -> None:
    """The second projection has no test score, so the first one is judged on validation too."""
    did = [
        make_record(make_spec(method__name="random_subspace", method__size=d, method__said=False), 0.8, None)
        for d in (8, 64)
    ]
    found = intrinsic_dimensions(findings_of(*subspaces(), *did))
    assert [each.split for each in found] == ["validation", "validation"]
    assert [each.full_score for each in found] == pytest.approx([0.921, 0.921])
