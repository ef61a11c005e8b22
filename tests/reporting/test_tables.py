from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest

from src.comparison import StudyTable
from src.records.study import Skipped
from src.reporting.tables import to_csv, to_markdown
from src.spec import ModelSpec
from tests.record_factory import make_record, make_spec, study_table


def csv_rows(study: StudyTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(study))))


def test_csv_holds_numbers_as_they_are_and_nothing_where_they_are_missing() -> None:
    study = study_table(
        make_record(make_spec("qv", 4, lora__dropout=0.05), 2 / 3, None, total_s=61.25),
        make_record(make_spec("qv", 4), status="diverged"),
        make_record(make_spec("none", 1), 0.5, 0.25),
    )
    first, second, third = csv_rows(study)
    assert (first["rank"], first["dropout"], first["adapter_parameters"]) == ("4", "0.05", "6144")
    assert float(first["validation_accuracy"]) == 2 / 3
    assert (first["test_accuracy"], first["time_s"], first["cause"]) == ("", "61.25", "")
    assert (second["targets"], second["rank"], second["lr"]) == ("none", "", "")
    assert (third["status"], third["validation_accuracy"], third["time_s"]) == ("diverged", "", "")
    assert third["cause"] == "the loss is not finite at step 30"


def test_csv_of_several_metrics_has_a_column_for_each() -> None:
    study = study_table(make_record(make_spec(), 0.9), make_record(make_spec(task__metric="loss"), 0.4))
    assert [(row["metric"], row["validation_accuracy"], row["validation_loss"]) for row in csv_rows(study)] == [
        ("accuracy", "0.9", ""),
        ("loss", "", "0.4"),
    ]


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-x", "@sum"])
def test_csv_text_never_starts_a_formula(name: str) -> None:
    (row,) = csv_rows(study_table(make_record(make_spec(model__path=name))))
    assert row["model"] == f"'{name}"


def test_csv_leaves_negative_numbers_numbers() -> None:
    spec = make_spec(task__kind="regression", task__metric="pearson", model__path="-2.5")
    (row,) = csv_rows(study_table(make_record(spec, -0.25)))
    assert (row["model"], row["validation_pearson"]) == ("-2.5", "-0.25")


def test_csv_does_not_give_a_failed_seed_the_scores_of_the_others() -> None:
    study = study_table(make_record(make_spec(), 0.9), make_record(make_spec(seed=1), status="failed"))
    mean, failed = csv_rows(study)
    assert (mean["seeds"], mean["validation_accuracy"], mean["time_s"]) == ("1 of 2", "0.9", "60.0")
    assert (failed["seeds"], failed["validation_accuracy"], failed["test_accuracy"], failed["time_s"]) == ("",) * 4


def cells_of(line: str) -> list[str]:
    """Cells of a Markdown table's line, where an escaped pipe is no border."""
    return line.replace("\\\\", "").replace("\\|", "").strip().strip("|").split("|")


def test_markdown_has_a_table_the_answer_and_what_is_not_ranked() -> None:
    study = study_table(make_record(make_spec("qv", 4), 0.9, 0.8), make_record(make_spec("qv", 8), status="failed"))
    text = to_markdown(study, ["Best: a|b."])
    assert "| qv | 4 | 16 | 0.003 | 1 | 6,144 | 0.9000 | 0.8000 | 1m 00s |\n" in text
    assert "\nBest: a\\|b.\n" in text
    assert "- qv r=8 (alpha 16, lr 0.003), seed 0: failed: ValueError: the loss is not finite at step 30\n" in text


def test_markdown_keeps_foreign_text_in_its_place() -> None:
    hostile = "a|b \\| c\n| d | <img src=x>\x1b[31m"
    # No checked config could be like that; a record that someone changed could.
    spec = dataclasses.replace(make_spec(), model=ModelSpec("asset:minilm", revision=hostile))
    records = [make_record(spec, 0.9), make_record(make_spec(model__revision="r1"), 0.8)]
    study = StudyTable("s|t", study_table(*records).tables, (Skipped(Path("x"), hostile),), ())
    text = to_markdown(study, [])
    assert "\x1b" not in text and "<img" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(cells_of(line)) for line in lines} == {9}
    assert "- x: not read: a\\|b \\\\\\| c \\| d \\| &lt;img src=x> [31m" in text
