"""One full report, drawn once for all tests that only read it."""

from __future__ import annotations

import pytest

from src.records import StudyPaths, read_study, write_analysis
from src.reporting import write_report
from tests.plots.studies import analysis, grid_of_runs
from tests.record_factory import make_record, make_spec, save


@pytest.fixture(scope="session")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> StudyPaths:
    """Two target sets, two ranks, two learning rates, two seeds, the head alone, a failure, and an analysis."""
    failed = make_record(make_spec("q", 64), status="failed", message="<b>" + "long" * 60)
    paths = save(tmp_path_factory.mktemp("outputs"), "study", *grid_of_runs(seeds=2), failed)
    for name in ("subspace", "amplification", "spectrum", "truncation"):
        write_analysis(analysis(name), paths.analysis)
    write_report(read_study(paths), paths, within=0.01)
    return paths
