"""Records from elsewhere: markup, formulas and absurd values never become more than text in what is made of them."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from src.records import RunRecord, Skipped, StudyPaths, find_study, read_study
from src.records.examples import read_examples
from src.reporting import write_report
from src.reporting.tables import guard
from src.spec import RunSpec
from tests.hostile.payloads import BROKEN_SAFETENSORS
from tests.hostile.watch import Watch, refused
from tests.record_factory import make_record, make_spec, save

MARKUP = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></table><script src=//evil.example/x></script>",
    "<svg onload=alert(1)>",
    "'\"><iframe src=javascript:alert(1)>",
    "{{ 7 * 7 }}{% for x in y %}",
    "</style><style>@import 'https://evil.example'</style>",
    "<a href='javascript:alert(1)'>x</a>",
    "<!-- -->",
    "]]>&lt;x&gt;",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "[x]: https://evil.example",
    "```\n<script>",
    "| a | b |",
    "$\\int_0^{$",
    "$x$ \\input{/etc/passwd}",
    "\x1b[2J\x1b]0;x\x07",
    "\u202egnp.exe",
    "a\nb\r\nc",
    "a" * 5000,
)
FORMULAS = (
    "=cmd|' /C calc'!A0",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    '=HYPERLINK("https://evil.example")',
    "\uff1d1+1",
    "\uff0b1",
    "=1+1;=2",
    "'=1+1\"",
    "=1,=2",
)
WORDS = re.compile(r"src|href|xlink:href|action|on\w+|style", re.IGNORECASE)


class Page(HTMLParser):
    """Tags, and every attribute by which a browser fetches or runs something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.active: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.active += [(name, value or "") for name, value in attrs if WORDS.fullmatch(name)]


def hostile(text: str, seed: int = 0, rank: int = 4) -> RunRecord:
    """A record that says it in every place that takes text."""
    record = make_record(spoilt(make_spec("qv", rank, seed=seed), text))
    return dataclasses.replace(
        record,
        env={
            "versions": {"torch": text, text: "1"},
            "git": {"commit": text, "dirty": True},
            "device_name": text,
            "dtype": text,
            "platform": text,
            "threads": text,
        },
        data={"path": text, "sha256": text, "label_names": [text, text]},
        tracking={"backend": "none", "id": text},
        time={**record.time, text[:100]: 1.0},
    )


def spoilt(spec: RunSpec, text: str) -> RunSpec:
    """What no checked config could be."""
    task = dataclasses.replace(spec.task, path=text, subset=text, text=text, label=text)
    return dataclasses.replace(spec, model=dataclasses.replace(spec.model, path=text, revision=text), task=task)


def failed(text: str) -> RunRecord:
    record = make_record(spoilt(make_spec("q", 8), text), status="failed", message=text)
    return dataclasses.replace(record, error=dataclasses.replace(record.error, type=text))  # type: ignore[type-var]


def report(watch: Watch, text: str) -> StudyPaths:
    records = []
    for place, record in enumerate((hostile(text), hostile(text, 1), hostile(text, rank=8), failed(text))):
        records.append(dataclasses.replace(record, run_id=f"run-{place}"))
    paths = save(watch.folder.parent, "study", *records)
    with watch.on():
        study = read_study(paths)
        assert len(study.records) == 4, study.skipped
        write_report(study, paths, within=0.01)
    watch.check()
    return paths


def cells(paths: StudyPaths) -> Iterator[str]:
    for file in paths.report.glob("*.csv"):
        with file.open(newline="") as stream:
            for row in csv.reader(stream):
                yield from row


def check(paths: StudyPaths) -> None:
    page = Page(paths.page.read_text())
    assert page.tags.isdisjoint({"script", "iframe", "object", "embed", "form", "base", "img", "input"})
    for name, value in page.active:
        assert name == "style" or value.startswith(("#", "figures/", "data:,")), (name, value)
        assert "url(" not in value.replace("url(#", "")
    for file in (paths.report_markdown, paths.table_markdown):
        text = re.sub(r"^(`{3,}).*?^\1$", "", file.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"<(?!br>)\w", text)
        assert all(target.startswith("figures/") for target in re.findall(r"\]\(([^)]*)", text))
        assert not re.search(r"^\s*\[[^\]]*\]:", text, re.MULTILINE)
        assert not any(ord(c) < 32 and c != "\n" for c in text)
    for cell in cells(paths):
        assert not cell.lstrip(" ").startswith(("=", "@", "\t", "\r", "\n", "\uff1d", "\uff0b")), cell
        assert not re.match(r" *[+-](?![\d.]|inf|nan)", cell), cell
    for file in paths.figures.glob("*.svg"):
        root = ElementTree.fromstring(file.read_bytes())
        names = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert names.isdisjoint({"script", "foreignObject", "image", "a", "animate", "set"})


@pytest.mark.parametrize(
    "text", [MARKUP[0], " ".join(MARKUP[:16]), FORMULAS[0], FORMULAS[4]], ids=["html", "all", "=", "tab"]
)
def test_text_of_a_record_stays_text(text: str, watch: Watch) -> None:
    check(report(watch, text))


@pytest.mark.slow
@pytest.mark.parametrize("text", MARKUP + FORMULAS, ids=lambda text: text[:20])
def test_every_text_of_a_record_stays_text(text: str, watch: Watch) -> None:
    check(report(watch, text))


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_table_starts_a_formula(text: str) -> None:
    told = guard(text)
    assert isinstance(told, str)
    quoted = text.replace("\r", " ")
    assert told == (quoted if text.startswith("'") else f"'{quoted}")


def test_numbers_stay_numbers() -> None:
    assert [guard(value) for value in ("-1.5", "+3", "-1e-5", "-inf", -2.0, None, "a=b")] == [
        "-1.5",
        "+3",
        "-1e-5",
        "-inf",
        -2.0,
        None,
        "a=b",
    ]


# What a good record is changed to, by dotted name; None removes.
CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "status": lambda r: r.update(status="<script>"),
    "rank 10**400": lambda r: r["params"].update(rank=10**400),
    "rank -1e999": lambda r: r["time"].update(total_s=float("-inf")),
    "time text": lambda r: r["time"].update(total_s="=1+1"),
    "time 10**400": lambda r: r["time"].update(total_s=10**400),
    "score a list": lambda r: r["metrics"]["test"].update(accuracy=[1]),
    "score NaN": lambda r: r["metrics"]["test"].update(accuracy=float("nan")),
    "score 10**300": lambda r: r["metrics"]["test"].update(accuracy=10**300),
    "unknown key": lambda r: r.update(_target_="os.system"),
    "target in the spec": lambda r: r["spec"]["model"].update(_target_="os.system"),
    "seed text": lambda r: r["spec"].update(seed="0"),
    "other schema": lambda r: r.update(schema_version=99),
    "spec a list": lambda r: r.update(spec=[]),
    "targets unknown": lambda r: r["spec"].update(lora=None),
    "another run": lambda r: r.update(run_id="../../evil"),
    "history": lambda r: r["metrics"].update(history=[{"step": 10**30}]),
}
TEXTS = {
    "empty": b"",
    "no JSON": b"import os",
    "list": b"[]",
    "deep": b"[" * 200_000,
    "NUL": b"\0" * 9,
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "5000 digits": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "latin-1": b'{"a": "\xe4"}',
    "pickle": b"\x80\x04.",
    "duplicate keys": b'{"schema_version": 1, "schema_version": 2}',
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_record_is_left_out_and_said(name: str, watch: Watch) -> None:
    record = make_record(make_spec())
    paths = save(watch.folder.parent, "study", record)
    file = paths.run(record.run_id).record
    values = json.loads(file.read_bytes())
    CHANGES[name](values)
    file.write_text(json.dumps(values))
    left_out(watch, paths, report=name == "status")


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_record_is_left_out_and_said(name: str, watch: Watch) -> None:
    paths = save(watch.folder.parent, "study", record := make_record(make_spec()))
    paths.run(record.run_id).record.write_bytes(TEXTS[name])
    left_out(watch, paths, report=name == "deep")


def left_out(watch: Watch, paths: StudyPaths, *, report: bool) -> None:
    with watch.on():
        study = read_study(paths)
        if report:
            tables, _ = write_report(study, paths, within=0.01)
            assert tables.skipped == study.skipped
    watch.check()
    assert study.records == ()
    (skipped,) = study.skipped
    assert 5 < len(skipped.reason) < 600


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_broken_predictions_are_left_out(name: str, watch: Watch) -> None:
    paths = save(watch.folder.parent, "study", record := make_record(make_spec()))
    paths.run(record.run_id).predictions.write_bytes(BROKEN_SAFETENSORS[name](watch))
    with watch.on():
        assert isinstance(read_examples(paths.run(record.run_id)), Skipped)
    watch.check()


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "..", ".", "", "a\0b", "x" * 5000, "study/../../x", "<script>", "a b\nc"]
)
def test_names_of_no_study_are_refused(name: str, watch: Watch) -> None:
    save(watch.folder.parent, "study", make_record(make_spec()))
    refused(watch, lambda: find_study(Path(watch.folder.parent), name), 1)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"runs": "../../x"}', b'{"runs": ["../../evil", 7, null, "<b>"]}', b"[" * 200_000]
)
def test_a_hostile_plan_is_only_text(text: bytes, watch: Watch) -> None:
    paths = save(watch.folder.parent, "study", make_record(make_spec()))
    paths.plan.write_bytes(text)
    with watch.on():
        study = read_study(paths)
        write_report(study, paths, within=0.01)
    watch.check()
    assert len(study.records) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"[" * 200_000,
        b'{"columns": 7}',
        b'{"schema_version": 1, "columns": {"a": [1, 2], "b": [1]}, "about": "x", "notes": {}}',
        b'{"schema_version": 1, "columns": {"=x": ["=1+1", "<script>"]}, "about": "<script>", "notes": {}}',
    ],
)
def test_a_hostile_analysis_is_only_text(text: bytes, watch: Watch) -> None:
    paths = save(watch.folder.parent, "study", make_record(make_spec()))
    paths.analysis.mkdir(parents=True)
    (paths.analysis / "subspace.json").write_bytes(text)
    with watch.on():
        write_report(read_study(paths), paths, within=0.01)
    watch.check()
    assert paths.table_csv.exists()
    if paths.page.exists():
        check(paths)
