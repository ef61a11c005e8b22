"""Reports of studies that are too large to be read row by row."""

from __future__ import annotations

import cProfile
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from src.benchmarks.simulated import simulate, simulated_specs
from src.comparison import build_tables, find_all, no_examples
from src.records import RunRecord, Study, StudyPaths, read_study
from src.reporting import answer, write_report
from src.reporting.document import MOST_ROWS, grid, shortened
from src.reporting.files import gather
from src.reporting.frames import run_frame
from src.reporting.html import to_html
from src.reporting.markdown import document_markdown
from src.reporting.material import Figures
from src.reporting.page import compose_page
from src.reporting.tables import to_csv, to_markdown
from tests.record_factory import make_record, make_spec, save

NO_TARGET = np.zeros(0, dtype=np.int64)


def simulated(number: int) -> tuple[RunRecord, ...]:
    """Of two seeds, so that there are many configurations and very many pairs of them."""
    specs = simulated_specs(number, seeds=2)
    return tuple(sorted((simulate(spec, NO_TARGET)[0] for spec in specs), key=lambda record: record.run_id))


def compose(records: Sequence[RunRecord], folder: Path) -> str:
    """All but the figures, whose number of points is bounded, and the writing of files."""
    study, paths = Study("study", tuple(records)), StudyPaths.of(folder, "study")
    tables = build_tables(study)
    findings = find_all(tables.tables, no_examples, margin=0.01)
    material = gather(study, tables, findings, paths, 0)
    document = compose_page(material, Figures(((),), ((),), (), ((),), ((),)))
    to_csv(tables), to_markdown(tables, answer(findings, tables)), run_frame(records)
    return document_markdown(document) + to_html(document)


def test_a_table_of_many_rows_is_cut_and_says_where_the_others_are() -> None:
    rows = [[str(number)] for number in range(MOST_ROWS + 1)]
    full, cut = grid(["n"], rows[:-1], caption="About."), shortened(grid(["n"], rows, caption="About."), "all.csv")
    assert shortened(full, "all.csv") is full
    assert len(cut.rows) == MOST_ROWS
    assert cut.caption == f"The first {MOST_ROWS} of {MOST_ROWS + 1} rows; all.csv has all. About."


def test_work_grows_no_faster_than_the_study(tmp_path: Path) -> None:
    """Calls of Python functions, which no other load of the machine changes."""
    calls = []
    for number in (400, 1600):
        records = simulated(number)
        compose(records[:50], tmp_path)
        profile = cProfile.Profile()
        profile.runcall(compose, records, tmp_path)
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[1] < 4 * calls[0]


@pytest.fixture(scope="module")
def long_report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyPaths]:
    """24 configurations and 36 lost runs, on a page that shows 20 rows of a table."""
    good = [make_record(make_spec("qv", rank), 0.7 + rank / 1e4, 0.7) for rank in range(1, 25)]
    lost = [make_record(make_spec("k", rank), status="diverged") for rank in range(1, 35)]
    paths = save(tmp_path_factory.mktemp("outputs"), "study", *good, *lost, *_failed(2))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("document", "sections.problems"):
            patch.setattr(f"src.reporting.{module}.MOST_ROWS", 20)
        write_report(read_study(paths), paths, within=0.01)
    yield paths


def _failed(number: int) -> list[RunRecord]:
    return [make_record(make_spec("o", rank), status="failed", message="no memory") for rank in range(1, number + 1)]


def test_the_page_of_a_long_study_is_cut_and_its_files_are_not(long_report: StudyPaths) -> None:
    page = long_report.page.read_text()
    assert "The first 20 of 24 rows; findings.csv has all." in page
    assert "<td>qv r=24</td>" in page and "<td>qv r=4</td>" not in page
    with (long_report.report / "findings.csv").open() as stream:
        assert [row["rank"] for row in csv.DictReader(stream)] == [str(rank) for rank in range(24, 0, -1)]


def test_of_many_failures_some_of_each_status_are_listed(long_report: StudyPaths) -> None:
    page = long_report.page.read_text()
    told = "The first of each status, of 36 rows (34 diverged, 2 failed); not_ranked.csv has all."
    assert told in page and told in long_report.report_markdown.read_text()
    assert page.count(">diverged<") == 10 and page.count(">failed<") == 2
    with (long_report.report / "not_ranked.csv").open() as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == ["diverged"] * 34 + ["failed"] * 2


def test_a_list_that_is_whole_again_leaves_no_file_of_it(tmp_path: Path) -> None:
    paths = save(tmp_path, "study", make_record(make_spec()), *_failed(3))
    paths.report.mkdir()
    (paths.report / "not_ranked.csv").write_text("run\n")
    write_report(read_study(paths), paths, within=0.01)
    assert not (paths.report / "not_ranked.csv").exists()


def test_sentences_name_a_few_and_count_the_others(tmp_path: Path) -> None:
    specs = [make_spec("qv", rank, optim__lr=rate) for rank in range(1, 16) for rate in (0.001, 0.01)]
    text = compose([make_record(spec, 0.8 + spec.optim.lr) for spec in specs], tmp_path)
    line = next(line for line in text.splitlines() if "The best learning rate is the highest" in line)
    assert line.count("r=") == 12 and line.endswith(", 3 more: widen the grid.")
