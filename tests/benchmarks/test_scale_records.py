from __future__ import annotations

from pathlib import Path

import pytest

from src.benchmarks.scale_records import report_scale
from src.benchmarks.simulated import simulated_specs, write_records
from src.comparison import build_tables, find_all
from src.records import StudyPaths, read_study
from src.records.examples import ExampleFiles
from src.spec import run_id


def test_simulated_studies_are_read_and_their_predictions_give_their_scores(tmp_path: Path) -> None:
    paths = StudyPaths.of(tmp_path, "study")
    write_records(paths, 60, seeds=3, examples=50)
    study = read_study(paths)
    assert (len(study.records), study.skipped, study.unfinished) == (60, (), ())
    examples = ExampleFiles(paths)
    (findings,) = find_all(build_tables(study).tables, examples, margin=0.01)
    assert examples.skipped == () and len(findings.contenders) == 5
    assert all(c.test is not None and c.test.over_examples is not None for c in findings.contenders)


def test_runs_are_all_different_and_the_design_has_an_end() -> None:
    assert len({run_id(spec) for spec in simulated_specs(300)}) == 300
    with pytest.raises(ValueError, match="the design with 1 seeds has"):
        simulated_specs(10**6, seeds=1)


def test_the_report_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    (row,) = report_scale([8], tmp_path, seeds=2, examples=20)
    assert row["cells"] == 8
    assert row["total_s"] == pytest.approx(row["read_s"] + row["report_s"] + row["print_s"])
    assert 10**7 < row["peak_bytes"] < 10**9 and 10**4 < row["page_bytes"] < 10**7
