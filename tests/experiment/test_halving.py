"""Successive halving: the rungs, and who is ended at one and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from src.experiment.halving import judge, rung_steps
from src.experiment.resolve import Cell, resolve_cells
from src.records import Elimination, HistoryPoint, Metrics, RunRecord
from src.spec import HalvingSpec, MethodSpec, RunSpec, normalise
from tests.experiment.workplace import Workplace, build
from tests.record_factory import make_record

HALVES = HalvingSpec(eta=2)
RATES = (1e-4, 3e-4, 1e-3, 1e-2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize(
    ("total", "every", "eta", "min_share", "expected"),
    [
        (100, 1, 2, 0.2, (25, 50)),
        (100, 1, 2, 0.25, (25, 50)),
        (100, 1, 2, 0.3, (50,)),
        (100, 1, 3, 0.01, (2, 4, 12, 34)),
        (100, 50, 2, 0.01, (50,)),
        (100, 40, 2, 0.2, (40, 80)),
        (100, 100, 2, 0.2, ()),
        (100, 1, 8, 0.2, ()),
    ],
)
def test_rungs_are_the_first_validations_after_each_share(
    total: int, every: int, eta: int, min_share: float, expected: tuple[int, ...]
) -> None:
    assert rung_steps(total, every, eta, min_share) == expected


# Judging by hand-made records. Scores are (accuracy at step 3, accuracy at step 6); None: not that far.


def cells_of(place: Workplace, specs: Sequence[RunSpec]) -> tuple[Cell, ...]:
    return tuple(resolve_cells(specs, place.cache))


def record_at(cell: Cell, *scores: float | None, status: str = "interrupted", at: int | None = None) -> RunRecord:
    metric = cell.spec.task.metric
    history = tuple(HistoryPoint(3 * (i + 1), 1.0, 0.5, {metric: score}) for i, score in enumerate(scores))
    record = dataclasses.replace(make_record(cell.spec, status=status), metrics=Metrics(history=history))
    ended = None if at is None else Elimination(1, at, 0.0, 2, 2, 1)
    return dataclasses.replace(record, eliminated=ended, run_id=cell.run_id)


def verdicts(cells: Sequence[Cell], found: Sequence[RunRecord | None], step: int = 3, **changes: Any) -> dict[int, Any]:
    """By index of the cell."""
    records = {cell.run_id: record for cell, record in zip(cells, found, strict=True)}
    ended = judge(cells, records, 1, step, dataclasses.replace(HALVES, **changes))
    return {i: ended[cell.run_id] for i, cell in enumerate(cells) if cell.run_id in ended}


def test_the_better_half_stays_and_the_verdict_says_all(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(lr=rate) for rate in RATES])
    found = [record_at(cell, score) for cell, score in zip(cells, (0.2, 0.5, 0.4, 0.1), strict=True)]
    assert verdicts(cells, found) == {
        0: Elimination(rung=1, step=3, score=0.2, place=3, of=4, kept=2),
        3: Elimination(rung=1, step=3, score=0.1, place=4, of=4, kept=2),
    }
    assert verdicts(cells, found, eta=4).keys() == {0, 2, 3}
    assert verdicts(cells[:3], found[:3]).keys() == {0}, "of three the better two"
    assert verdicts(cells[:1], found[:1]) == {}


def test_equal_scores_at_the_cut_all_stay(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(lr=rate) for rate in RATES])
    found = [record_at(cell, score) for cell, score in zip(cells, (0.4, 0.5, 0.4, 0.1), strict=True)]
    assert verdicts(cells, found) == {3: Elimination(1, 3, 0.1, 4, 4, 3)}


def test_the_best_validation_so_far_counts_and_none_after_the_rung(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(lr=rate) for rate in RATES[:2]])
    found = [record_at(cells[0], 0.6, 0.1), record_at(cells[1], 0.5, 0.5)]
    assert verdicts(cells, found, step=6).keys() == {1}
    found = [record_at(cells[0], 0.6, 0.1), record_at(cells[1], 0.5, 0.9, status="completed")]
    assert verdicts(cells, found, step=3) == {}, "who has gone on is not called back"


def test_lower_is_better_where_the_metric_says_so(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(lr=rate, metric="loss") for rate in RATES[:2]])
    assert verdicts(cells, [record_at(cells[0], 0.6), record_at(cells[1], 0.5)]) == {0: Elimination(1, 3, 0.6, 2, 2, 1)}


def test_scope_decides_who_competes(place: Workplace) -> None:
    """qv at two rates, q at two rates, ranks 1 and 2, and the head alone, which is last by far and never ended."""
    specs = [place.spec(targets, rank, lr=rate) for targets, rank in (("qv", 2), ("q", 1)) for rate in (1e-3, 1e-2)]
    cells = cells_of(place, [*specs, place.spec("none")])
    found = [record_at(cell, score) for cell, score in zip(cells, (0.9, 0.8, 0.2, 0.1, 0.01), strict=True)]
    assert verdicts(cells, found).keys() == {1, 3}
    assert verdicts(cells, found, scope="all").keys() == {2, 3}


def test_every_method_competes_with_itself(place: Workplace) -> None:
    """LoRA, BitFit and a random subspace of two sizes, at two rates each; the head alone never competes."""
    methods = [MethodSpec(), MethodSpec("bitfit"), MethodSpec("random_subspace", 8), MethodSpec("random_subspace", 16)]
    specs = [dataclasses.replace(place.spec(lr=lr), method=method) for method in methods for lr in (1e-3, 1e-2)]
    cells = cells_of(place, [*map(normalise, specs), place.spec("none")])
    scores = (0.9, 0.8, 0.2, 0.1, 0.3, 0.4, 0.6, 0.5, 0.01)
    found = [record_at(cell, score) for cell, score in zip(cells, scores, strict=True)]
    assert verdicts(cells, found).keys() == {1, 3, 4, 7}


def test_alpha_is_tuned_like_the_learning_rate(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(alpha=8.0), place.spec(alpha=16.0), place.spec(dropout=0.1)])
    assert verdicts(cells, [record_at(cell, score) for cell, score in zip(cells, (0.1, 0.2, 0.0), strict=True)]) == {
        0: Elimination(1, 3, 0.1, 2, 2, 1)
    }


def test_seeds_go_on_or_end_together_by_their_mean(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(lr=rate, seed=seed) for rate in (1e-3, 1e-2) for seed in (0, 1)])
    found = [record_at(cell, score) for cell, score in zip(cells, (0.1, 0.7, 0.5, 0.5), strict=True)]
    assert verdicts(cells, found) == {i: Elimination(1, 3, pytest.approx(0.4), 2, 2, 1) for i in (0, 1)}


def test_a_late_seed_of_what_was_ended_is_ended_as_well(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(lr=rate, seed=seed) for rate in (1e-3, 1e-2) for seed in (0, 1)])
    found = [
        record_at(cells[0], 0.1, status="eliminated", at=3),
        record_at(cells[1], 0.9),
        record_at(cells[2], 0.2, 0.3, status="completed"),
        record_at(cells[3], 0.2),
    ]
    assert verdicts(cells, found).keys() == {1}


def test_what_diverged_loses_and_what_failed_is_not_judged(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(lr=rate, seed=seed) for rate in RATES[:2] for seed in (0, 1)])
    diverged = [
        record_at(cells[0], status="diverged"),
        record_at(cells[1], 0.9),
        *(record_at(c, 0.1) for c in cells[2:]),
    ]
    assert verdicts(cells, diverged) == {1: Elimination(1, 3, None, 2, 2, 1)}
    failed = [record_at(cells[0], status="failed"), *diverged[1:]]
    assert verdicts(cells, failed) == {}
    later = [record_at(cells[0], 0.8, status="diverged"), *diverged[1:]]
    assert verdicts(cells, later).keys() == {2, 3}, "it diverged after the rung, where it was ahead"


def test_what_was_ended_at_an_earlier_rung_no_longer_counts(place: Workplace) -> None:
    cells = cells_of(place, [place.spec(lr=rate) for rate in RATES])
    found = [record_at(cell, 0.1, status="eliminated", at=3) for cell in cells[:2]]
    found += [record_at(cells[2], 0.5, 0.5), record_at(cells[3], 0.4, 0.6)]
    assert verdicts(cells, found, step=6) == {2: Elimination(1, 6, 0.5, 2, 2, 1)}
