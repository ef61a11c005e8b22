from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.records import (
    Budget,
    Failure,
    HistoryPoint,
    Metrics,
    Params,
    RecordError,
    RunRecord,
    finite_scores,
    read_record,
    write_record,
)
from src.spec import run_spec_from_dict, to_dict
from tests.record_factory import make_record, make_spec

number = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(), max_size=20)  # lone surrogates too: a path may hold them
whole = st.integers(-(2**63) + 1, 2**63 - 1)  # what every reader of JSON and every table takes
scalar = st.none() | st.booleans() | whole | number | text
json_value = st.recursive(scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
json_object = st.dictionaries(text, json_value, max_size=4)
scores = st.dictionaries(text, st.none() | number, max_size=3)
count = st.none() | st.integers(0, 10**12)
specs = st.builds(
    make_spec,
    st.sampled_from(["qv", "oq", "qkvougd", "mlp", "none"]),
    st.integers(1, 64),
    seed=st.integers(0, 2**32 - 1),
    optim__lr=st.floats(1e-6, 1.0),
    lora__layers=st.none() | st.just("0-3"),
)
records = st.builds(
    RunRecord,
    run_id=text,
    status=st.sampled_from(["completed", "failed", "diverged", "interrupted"]),
    error=st.none() | st.builds(Failure, text, text, text),
    spec=specs.map(to_dict),
    params=st.builds(Params, count, count, count, count, st.none() | st.builds(Budget, whole, whole, whole)),
    metrics=st.builds(
        Metrics,
        st.none() | scores,
        st.none() | scores,
        st.lists(st.builds(HistoryPoint, whole, number, st.none() | number, scores), max_size=3).map(tuple),
    ),
    best_epoch=st.none() | number,
    time=st.dictionaries(text, st.none() | number | whole, max_size=4),
    memory=st.dictionaries(text, count, max_size=2),
    env=json_object,
    data=json_object,
    tracking=st.dictionaries(text, st.none() | text, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(records)
def test_what_is_written_is_read_back(record: RunRecord) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        write_record(record, path)
        assert read_record(path) == record


def test_the_file_nests_the_spec_as_the_config_does(tmp_path: Path) -> None:
    spec = make_spec("qkvo", None, lora__rank=None, lora__budget=73728)
    write_record(make_record(spec), tmp_path / "record.json")
    value = json.loads((tmp_path / "record.json").read_text())
    assert value["spec"]["lora"]["budget"] == 73728
    assert run_spec_from_dict(value["spec"]) == spec
    assert value["params"]["budget"] == {"requested": 73728, "achieved": 24576, "residual": 49152}
    assert value["metrics"]["history"][0]["step"] == 10
    assert {"run_id", "status", "error", "best_epoch", "time", "memory", "env", "schema_version"} <= value.keys()


def test_scores_that_are_not_finite_are_missing() -> None:
    given_scores = {"loss": math.nan, "perplexity": math.inf, "accuracy": 0.0, "f1": None}
    assert finite_scores(given_scores) == {"loss": None, "perplexity": None, "accuracy": 0.0, "f1": None}


def test_nan_cannot_be_written(tmp_path: Path) -> None:
    record = make_record(make_spec(), validation=math.nan)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(record, tmp_path / "record.json")
    assert list(tmp_path.iterdir()) == []


def changed(**changes: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(make_record(make_spec())), **changes}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in changed().items() if name != key}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not strict JSON"),
        ("{", "not strict JSON"),
        ('{"schema_version": NaN}', "not strict JSON"),
        ("[" * 100_000, "not strict JSON"),
        ("[]", "schema_version is None"),
        ('{"loss": 1}', "schema_version is None"),
        (json.dumps(changed(schema_version=99)), "schema_version is 99"),
        (json.dumps(without("status")), "status is missing"),
        (json.dumps(changed(surprise=1)), "surprise is not a known field"),
        (json.dumps(changed(status="done")), "status is 'done'"),
        (json.dumps(changed(params={"adapter": 1.5})), r"params\.adapter is 1\.5"),
        (json.dumps(changed(params={"adapter": True})), r"params\.adapter is True"),
        (json.dumps(changed(best_epoch="1")), "best_epoch is '1'"),
        (json.dumps(changed(metrics={"validation": {"accuracy": "high"}})), r"metrics\.validation\.accuracy"),
        (json.dumps(changed(metrics={"history": [{"step": 1}]})), r"metrics\.history\[0\]\.epoch is missing"),
        (json.dumps(changed()).replace('"lr": 0.003', '"lr": 1e999'), r"spec\.optim\.lr is inf"),
        (json.dumps(changed(spec={"seed": 0})), r"spec\.model is missing"),
    ],
)
def test_corrupt_and_foreign_files_are_refused_with_the_reason(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=reason):
        read_record(path)


def test_a_missing_file_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file"):
        read_record(tmp_path / "record.json")
    (tmp_path / "record.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="not strict JSON"):
        read_record(tmp_path / "record.json")


def test_a_record_from_before_a_setting_existed_can_be_read(tmp_path: Path) -> None:
    value = changed()
    del value["spec"]["lora"]["dropout"]
    (tmp_path / "record.json").write_text(json.dumps(value))
    assert read_record(tmp_path / "record.json").run_spec().lora.dropout == 0.0
