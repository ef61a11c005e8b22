from __future__ import annotations

from pathlib import Path

import pytest

from src.reporting.mirror import make_board, read_table, summarise
from tests.record_factory import make_record, make_spec, save, study_table


def test_values_of_a_csv_file_get_their_types_back(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('name,n,x,mixed\n"q, v",8,0.5,2 of 3\nnan,-1,1e-3,\n1_000,+2,.5,inf\n')
    table = read_table(file)
    assert table.columns == ["name", "n", "x", "mixed"]
    assert table.rows == [["q, v", 8, 0.5, "2 of 3"], ["nan", -1, 0.001, None], ["1_000", 2, 0.5, "inf"]]
    assert [type(value) for value in table.rows[0]] == [str, int, float, str]


def test_an_empty_file_is_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert read_table(tmp_path / "a.csv").columns == ()


def test_a_summary_holds_what_the_report_folder_holds(tmp_path: Path) -> None:
    best, other = make_record(make_spec("qv", 4), 0.9, 0.8), make_record(make_spec("q", 4), 0.7, 0.6)
    failed = make_record(make_spec("v", 4), status="failed")
    paths = save(tmp_path, "study", best, other, failed)
    (paths.report / "figures").mkdir(parents=True)
    for name in ("figures/front.png", "figures/front.svg", "table.csv", "spectrum.csv", "report.md"):
        (paths.report / name).write_text("a,b\n1,2\n")
    summary = summarise(paths, study_table(best, other, failed), ["One.", "Two."])
    assert (summary.study, summary.folder) == ("study", tmp_path / "study")
    assert list(summary.tables) == ["spectrum", "table"]
    assert list(summary.tables["table"].rows) == [[1, 2]]
    assert summary.figures == {"front": paths.report / "figures" / "front.png"}
    assert summary.scalars == {
        "cells": 2,
        "runs_not_ranked": 1,
        "best_validation/accuracy": 0.9,
        "test/accuracy": 0.8,
    }


def test_a_study_without_a_report_folder_has_a_summary(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", make_record(make_spec()))
    summary = summarise(paths, study_table(make_record(make_spec())), [])
    assert (summary.tables, summary.figures) == ({}, {})


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_a_board_names_the_metrics_and_shows_the_ranked_cells(metric: str, tmp_path: Path) -> None:
    record = make_record(make_spec("qv", 4, task__metric=metric))
    paths = save(tmp_path, "study", record)
    board = make_board(paths, study_table(record), ["One."])
    assert (board.metrics, board.sentences, board.draft.suffix) == ((metric,), ("One.",), ".json")
    assert board.draft.is_relative_to(paths.report)
    assert any(line.startswith("| q,v |") or line.startswith("| qv |") for line in board.table.splitlines())
