from __future__ import annotations

import builtins
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import src.plots
from src.errors import WriteError
from src.plots.style import Drawing
from src.records import StudyPaths, read_study, write_analysis
from src.reporting import write_report
from src.reporting.tables import to_csv, to_markdown
from tests.plots.studies import analysis, grid_of_runs, run
from tests.record_factory import make_record, make_spec, save

TABLES = {"findings.csv", "findings.parquet", "runs.csv", "runs.parquet", "table.csv", "table.md", "table.parquet"}


def write(paths: StudyPaths) -> None:
    write_report(read_study(paths), paths, within=0.01)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_everything_is_written_and_rewritten(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", run("qv", 4, 0.905))
    write(paths)
    assert names(paths.report) == TABLES | {"index.html", "report.md"}
    save(tmp_path, "study", run("qv", 8, 0.91))
    tables, sentences = write_report(read_study(paths), paths, within=0.01)
    assert paths.table_csv.read_text() == to_csv(tables)
    assert paths.table_markdown.read_text() == to_markdown(tables, sentences)
    assert len(tables.tables[0].ranked) == 2
    figures = {f"{name}{suffix}" for name in ("score-by-parameters", "score-by-rank", "time-and-memory")
               for suffix in (".png", ".svg")}  # fmt: skip
    assert names(paths.figures) == figures
    assert all(f"figures/{name}" in paths.page.read_text() for name in figures)


def test_the_same_records_give_the_same_page(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", *(run("qv", rank, 0.8) for rank in (1, 2)))
    write(paths)
    first = {path: path.read_bytes() for path in paths.report.rglob("*.*") if path.is_file()}
    write(paths)
    assert {path: path.read_bytes() for path in first} == first


def test_figures_that_no_longer_hold_are_removed(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", *grid_of_runs(seeds=1, ranks=(2,), rates=1))
    paths.figures.mkdir(parents=True)
    (paths.figures / "score-by-rank.svg").write_text("of an earlier report")
    (paths.figures / "notes.txt").write_text("somebody's own")
    write(paths)
    assert {"score-by-rank.svg", "notes.txt"} & names(paths.figures) == {"notes.txt"}


def test_each_table_of_a_study_has_figures_of_its_own(tmp_path: Path) -> None:
    records = [run("qv", rank, 0.8, task__path=task) for rank in (1, 2) for task in ("asset:r52", "asset:r8")]
    paths = save(tmp_path, "study", *records)
    write(paths)
    assert {"minilm-r52-accuracy-score-by-rank.svg", "minilm-r8-accuracy-score-by-rank.svg"} <= names(paths.figures)


def test_analysis_tables_are_there_as_csv_and_parquet(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", run("qv", 4, 0.8))
    table = analysis("amplification")
    write_analysis(table, paths.analysis)
    write(paths)
    csv, parquet = (paths.report / f"amplification.{suffix}" for suffix in ("csv", "parquet"))
    for frame in (pd.read_csv(csv), pd.read_parquet(parquet)):
        assert frame["factor"].tolist() == list(table.columns["factor"])


def test_a_figure_that_fails_is_told_of_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> Drawing | None:
        raise ZeroDivisionError("no <axes>")

    scores = (broken, *src.plots.TABLE_PLOTS["scores"])
    monkeypatch.setattr(src.plots, "TABLE_PLOTS", {**src.plots.TABLE_PLOTS, "scores": scores})
    paths = save(tmp_path, "study", *(run("qv", rank, 0.8) for rank in (1, 2)))
    with caplog.at_level(logging.WARNING):
        write(paths)
    assert "broken: ZeroDivisionError: no &lt;axes&gt;" in paths.page.read_text()
    assert "The figure broken cannot be drawn" in caplog.text
    assert "score-by-rank.svg" in names(paths.figures)


def test_without_matplotlib_there_are_tables_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "src.reporting.figures":
            raise ImportError("No module named 'matplotlib'")
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    paths = save(tmp_path, "study", *grid_of_runs(seeds=1))
    write(paths)
    assert names(paths.report) > TABLES
    assert "matplotlib" in paths.page.read_text()


def test_a_page_that_fails_leaves_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("src.reporting.frames.write_frames", broken)
    paths = save(tmp_path, "study", run("qv", 4, 0.8))
    paths.report.mkdir()
    paths.page.write_text("of an earlier report")
    write(paths)
    assert names(paths.report) == {"table.csv", "table.md"}
    assert "could not be written; its tables are in" in caplog.text


def test_a_report_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", make_record(make_spec()))
    paths.report.write_text("in the way")
    with pytest.raises(WriteError, match=r"table\.md"):
        write(paths)


def test_a_study_without_completed_cells_still_reports(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", make_record(make_spec(), status="failed"))
    write(paths)
    assert "No cell has a validation score." in paths.table_markdown.read_text()
    assert "there is nothing to rank" in paths.page.read_text()
