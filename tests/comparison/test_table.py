from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from src.comparison import Cell, Table, build_tables
from src.records import Params, RunRecord, Skipped, Study
from tests.record_factory import make_record, make_spec, one_table, study_table


def rows(table: Table) -> list[list[str]]:
    return [table.row(cell) for cell in table.ranked]


def titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def test_rows_are_sorted_by_validation_and_shown_as_a_reader_expects() -> None:
    table = one_table(
        make_record(make_spec("qv", 4), 0.905, 0.9),
        make_record(make_spec("qkvo", 64), 0.912, 0.897, total_s=133.2),
        make_record(make_spec("none", 1), 0.71, None, total_s=None),
    )
    assert table.title == "minilm on r52, accuracy"
    assert titles(table) == [
        "targets", "rank", "alpha", "lr", "seeds", "adapter parameters", "validation", "test", "time"
    ]  # fmt: skip
    assert rows(table) == [
        ["qkvo", "64", "16", "0.003", "1", "196,608", "0.9120", "0.8970", "2m 13s"],
        ["qv", "4", "16", "0.003", "1", "6,144", "0.9050", "0.9000", "1m 00s"],
        ["none", "-", "-", "-", "1", "0", "0.7100", "-", "-"],
    ]


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 0.3), ("loss", 0.1)])
def test_the_metric_decides_which_end_is_best(metric: str, best: float) -> None:
    records = [
        make_record(make_spec("qv", rank, task__metric=metric), score) for rank, score in [(1, 0.2), (2, 0.1), (4, 0.3)]
    ]
    assert one_table(*records).ranked[0].validation == best


def test_among_equals_the_smaller_cell_comes_first() -> None:
    table = one_table(*(make_record(make_spec("qkvo", rank), 0.9) for rank in (64, 1, 8)))
    assert [cell.rank for cell in table.ranked] == [1, 8, 64]


def test_the_order_of_the_records_does_not_matter() -> None:
    records = [
        make_record(make_spec(t, r, seed=s), 0.9) for t in ("qv", "qkvo", "none") for r in (1, 4) for s in (0, 1)
    ]
    shuffled = records[:]
    random.Random(0).shuffle(shuffled)
    first, second = (build_tables(Study("s", tuple(order))).tables[0] for order in (records, shuffled))
    assert rows(first) == rows(second)


def test_seeds_are_averaged() -> None:
    table = one_table(
        *(
            make_record(make_spec(seed=s), v, t, total_s=10.0 * s)
            for s, v, t in [(0, 0.6, 0.5), (1, 0.7, 0.7), (2, 0.8, 0.9)]
        )
    )
    (cell,) = table.ranked
    assert cell.validation == pytest.approx(0.7)
    assert cell.test == pytest.approx(0.7)
    assert cell.total_s == pytest.approx(10.0)
    assert cell.seeds == 3


def test_batch_sizes_of_evaluation_do_not_part_the_seeds_of_a_cell() -> None:
    table = one_table(make_record(make_spec()), make_record(make_spec(seed=1, trainer__eval_batch_size=8)))
    assert [cell.seeds for cell in table.ranked] == [2]


def test_a_seed_that_diverged_is_missing_from_the_mean_and_listed() -> None:
    table = one_table(
        make_record(make_spec(seed=0), 0.6),
        make_record(make_spec(seed=1), 0.8),
        make_record(make_spec(seed=2), status="diverged"),
    )
    (cell,) = table.ranked
    assert (cell.validation, cell.seeds) == (pytest.approx(0.7), "2 of 3")
    (problem,) = table.problems
    assert problem.label == "qv r=4 (alpha 16, lr 0.003), seed 2"
    assert (problem.status, problem.cause) == ("diverged", "the loss is not finite at step 30")


def test_a_test_score_that_one_seed_lacks_is_missing_for_the_cell() -> None:
    table = one_table(make_record(make_spec(seed=0), 0.6, 0.5), make_record(make_spec(seed=1), 0.8, None))
    assert (table.ranked[0].validation, table.ranked[0].test) == (pytest.approx(0.7), None)


def test_what_did_not_complete_is_never_ranked() -> None:
    table = one_table(
        make_record(make_spec("q"), status="failed", message="no\nspace  left"),
        make_record(make_spec("k"), status="diverged"),
        make_record(make_spec("v"), status="interrupted"),
        make_record(make_spec("o"), validation=None),
        make_record(make_spec("none"), status="failed", message="full"),
    )
    assert table.ranked == ()
    assert {problem.label for problem in table.problems if not problem.cell.adapted} == {"none, seed 0"}
    assert {(problem.cell.spec.lora.targets, problem.status, problem.cause) for problem in table.problems} == {
        ("q", "failed", "ValueError: no space left"),
        ("k", "diverged", "the loss is not finite at step 30"),
        ("v", "interrupted", "stopped before its end; the same command continues it"),
        ("o", "completed", "no validation score"),
        ("none", "failed", "ValueError: full"),
    }


def test_scores_from_before_a_divergence_do_not_count() -> None:
    scored = dataclasses.replace(make_record(make_spec(), 0.9), status="diverged")
    table = one_table(scored, make_record(make_spec(seed=1), 0.5))
    assert [(cell.validation, cell.seeds) for cell in table.ranked] == [(0.5, "1 of 2")]


def test_fields_that_cannot_change_a_result_are_no_columns() -> None:
    table = one_table(make_record(make_spec("q", trainer__eval_batch_size=8)), make_record(make_spec("v")))
    assert table.varying == ()


def test_only_fields_that_vary_become_columns() -> None:
    table = one_table(
        make_record(make_spec("qv", 4, lora__dropout=0.1, trainer__epochs=3)),
        make_record(make_spec("qv", 4, lora__dropout=0.0, trainer__epochs=3)),
        make_record(make_spec("none", 1, trainer__epochs=3)),
    )
    assert titles(table)[3:6] == ["lr", "dropout", "seeds"]
    assert {row[4] for row in rows(table)} == {"0", "0.1", "-"}
    assert {table.label(cell) for cell in table.ranked} == {
        "qv r=4 (alpha 16, lr 0.003, dropout 0.1)",
        "qv r=4 (alpha 16, lr 0.003, dropout 0)",
        "none",
    }


def test_the_head_alone_makes_nothing_vary() -> None:
    """Its adapter settings are fixed values that mean nothing, and its learning rate is the head's."""
    tuned = {"lora__dropout": 0.1, "lora__layers": "0-3", "lora__init": "gaussian"}
    table = one_table(make_record(make_spec("qv", 4, **tuned)), make_record(make_spec("none", 4, **tuned)))
    assert table.varying == ()


def test_the_rank_of_a_budget_comes_from_the_record() -> None:
    by_budget = make_spec("qv", None, lora__rank=None, lora__budget=73728)
    table = one_table(make_record(by_budget), make_record(make_spec("qv", 4)))
    assert {(row[1], row[4]) for row in rows(table)} == {("8", "73728"), ("4", "-")}
    unknown = dataclasses.replace(make_record(by_budget, status="failed"), params=Params())
    assert one_table(unknown).problems[0].label == "qv budget 73,728 (alpha 16, lr 0.003), seed 0"


def test_scores_that_cannot_be_compared_stand_in_tables_of_their_own() -> None:
    study = study_table(
        make_record(make_spec()),
        make_record(make_spec(task__path="asset:r8")),
        make_record(make_spec(task__metric="macro_f1")),
        make_record(make_spec(model__path="asset:smollm2")),
        make_record(make_spec(task__split_seed=1)),
        make_record(make_spec(task__max_length=64)),
    )
    assert [(table.title, len(table.ranked)) for table in study.tables] == [
        ("minilm on r52, accuracy (split_seed 0)", 2),
        ("minilm on r52, accuracy (split_seed 1)", 1),
        ("minilm on r52, macro_f1", 1),
        ("minilm on r8, accuracy", 1),
        ("smollm2 on r52, accuracy", 1),
    ]


def test_no_records_make_no_tables(tmp_path_factory: pytest.TempPathFactory) -> None:
    skipped = (Skipped(tmp_path_factory.getbasetemp(), "why"),)
    study = build_tables(Study("s", (), skipped, ("half",)))
    assert (study.tables, study.skipped, study.unfinished) == ((), skipped, ("half",))


def again(score: float | None, name: str, **how: Any) -> RunRecord:
    """Another run of qv r=4, seed 1, under a run id of its own."""
    record = make_record(make_spec("qv", 4, seed=1), score, score, **how)
    return dataclasses.replace(record, run_id=name)


def test_a_seed_that_ran_twice_counts_once_and_the_other_run_is_listed() -> None:
    table = one_table(make_record(make_spec("qv", 4), 0.8, 0.8), again(0.9, "b"), again(0.5, "c"), again(0.1, "d"))
    (cell,) = table.ranked
    assert (cell.seeds, cell.whole, cell.seed_values) == (2, True, {0, 1})
    assert (cell.validation, cell.test) == (pytest.approx(0.85), pytest.approx(0.85))
    assert [(p.run_id, p.status) for p in table.problems] == [("c", "repeated"), ("d", "repeated")]
    assert table.problems[0].label == "qv r=4 (alpha 16, lr 0.003), seed 1"
    assert table.problems[0].cause == "completed; b has the same settings and seed and stands for both"


@pytest.mark.parametrize("lost", [{"status": "failed"}, {"status": "interrupted"}, {"score": None}])
def test_of_two_runs_of_a_seed_the_one_with_a_score_stands(lost: dict[str, Any]) -> None:
    bad = again(**{"score": 0.9, "name": "a", **lost})
    for records in ((bad, again(0.9, "b")), (again(0.9, "b"), bad)):
        table = one_table(*records)
        assert [record.run_id for record in table.ranked[0].records] == ["b"]
        assert table.ranked[0].seeds == 1 and [p.run_id for p in table.problems] == ["a"]


def test_seeds_are_counted_by_their_numbers() -> None:
    twice = Cell(make_spec("qv", 4, seed=1), (again(0.9, "a"), again(0.9, "b")))
    assert twice.seeds == 1
