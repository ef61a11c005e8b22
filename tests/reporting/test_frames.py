from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from src.records import read_study
from src.reporting import write_report
from src.reporting.frames import findings_frame, run_frame, to_csv, typed
from tests.plots.studies import findings_of, grid_of_runs, run
from tests.record_factory import make_record, make_spec, save


def test_whole_numbers_stay_whole_and_missing_stays_missing() -> None:
    frame = typed([{"a": 1, "b": 0.5, "c": True, "d": "x"}, {"a": None, "b": 2, "c": None, "d": None}])
    assert to_csv(frame) == "a,b,c,d\n1,0.5,True,x\n,2.0,,\n"
    assert frame["a"].isna().tolist() == [False, True]


def test_mixed_values_become_text() -> None:
    assert typed([{"seeds": 3}, {"seeds": "2 of 3"}])["seeds"].tolist() == ["3", "2 of 3"]


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@sum", "\tx"])
def test_no_cell_and_no_header_starts_a_formula(text: str) -> None:
    frame = typed([{text: text, "number": -1.5}])
    assert to_csv(frame).splitlines() == [f"'{text},number", f"'{text},-1.5"]


def test_csv_and_parquet_hold_the_same(tmp_path: Path) -> None:
    paths = save(tmp_path, "s", *grid_of_runs(ranks=(2,), seeds=2), make_record(make_spec("q", 64), status="failed"))
    write_report(read_study(paths), paths, within=0.01)
    for name in ("table", "runs", "findings"):
        parquet = pd.read_parquet(paths.report / f"{name}.parquet")
        csv = pd.read_csv(paths.report / f"{name}.csv")
        assert list(parquet.columns) == list(csv.columns) and len(parquet) == len(csv) > 2
        for column in csv.select_dtypes("number"):
            pd.testing.assert_series_equal(parquet[column].astype(float), csv[column].astype(float))


def test_a_study_of_corrupt_records_still_has_tables(tmp_path: Path) -> None:
    paths = save(tmp_path, "s")
    paths.run("broken").root.mkdir(parents=True)
    paths.run("broken").record.write_text("{")
    write_report(read_study(paths), paths, within=0.01)
    assert len(pd.read_parquet(paths.report / "runs.parquet")) == 0


def test_runs_carry_settings_scores_and_causes() -> None:
    frame = run_frame([run("qv", 4, 0.8), make_record(make_spec("none"), status="failed")])
    first, second = frame.to_dict("records")
    assert (first["lora.targets"], first["rank"], first["test_accuracy"]) == ("qv", 4, 0.8)
    assert (first["status"], second["status"]) == ("completed", "failed")
    assert second["cause"] == "ValueError: the loss is not finite at step 30"
    assert pd.isna(second["test_accuracy"]) and pd.isna(second["lora.rank"])


def test_findings_carry_their_intervals() -> None:
    findings = findings_of(*grid_of_runs())
    best = findings.contenders[0]
    first = findings_frame([findings]).to_dict("records")[0]
    assert best.test is not None and best.test.over_seeds is not None
    assert (first["configuration"], first["place"], first["seeds"]) == (best.label, 1, 3)
    assert first["test_over_seeds_low"] == best.test.over_seeds.low
    assert pd.isna(first["difference"])
