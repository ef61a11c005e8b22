"""Data that people really have: empty, cut, of another encoding or shape. Told in a sentence, or read as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.config.messages import exit_code, paragraph
from src.data import TaskData, load_task
from src.spec import TaskSpec
from tests.data.conftest import Counting

ROWS = [(f"w{i} w{i + 1} w{i + 2}", ("red", "blue")[i % 2]) for i in range(40)]
GOOD = "".join(f"{text},{label}\n" for text, label in ROWS)
Write = Callable[[Path], None]


def text(content: str, encoding: str = "utf-8") -> Write:
    return lambda file: file.write_text(content, encoding=encoding, newline="") and None


def raw(content: bytes) -> Write:
    return lambda file: file.write_bytes(content) and None


def lines(rows: list[Any]) -> Write:
    return text("".join(json.dumps(row) + "\n" for row in rows))


def parquet(columns: dict[str, Any]) -> Write:
    return lambda file: pq.write_table(pa.table(columns), file)


def objects(**more: Any) -> list[dict[str, Any]]:
    return [{"text": a, "label": b, **more} for a, b in ROWS]


TEXTS, LABELS = [a for a, _ in ROWS], [b for _, b in ROWS]
# Name of the file; what writes it; what is changed in the task; words of the sentence.
REFUSED: dict[str, tuple[str, Write, dict[str, Any], str]] = {
    "empty csv": ("x.csv", raw(b""), {}, "is empty"),
    "blank csv": ("x.csv", raw(b"\n\n  \n"), {}, "is empty"),
    "empty jsonl": ("x.jsonl", raw(b""), {}, "is empty"),
    "empty parquet": ("x.parquet", raw(b""), {}, "is empty"),
    "header only": ("x.csv", text("text,label\n"), {}, "have no rows"),
    "header without newline": ("x.csv", text("text,label"), {}, "have no rows"),
    "parquet without rows": (
        "x.parquet",
        parquet({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}),
        {},
        "have no rows",
    ),
    "binary csv": ("x.csv", raw(bytes(range(256)) * 20), {}, "binary"),
    "binary jsonl": ("x.jsonl", raw(b"\x89PNG\r\n\x1a\n\0\0"), {}, "binary"),
    "binary parquet": ("x.parquet", raw(b"PAR1" + b"\xff" * 100), {}, "cannot be loaded"),
    "cut parquet": (
        "x.parquet",
        lambda file: (parquet({"text": TEXTS, "label": LABELS})(file), file.write_bytes(file.read_bytes()[:-20]))[0],
        {},
        "cannot be loaded",
    ),
    "csv named parquet": ("x.parquet", text(f"text,label\n{GOOD}"), {}, "cannot be loaded"),
    "parquet named csv": ("x.csv", parquet({"text": TEXTS, "label": LABELS}), {}, "binary|UTF-8"),
    "UTF-16": ("x.csv", text(f"text,label\n{GOOD}", "utf-16"), {}, "UTF-16"),
    "UTF-16 without mark": ("x.csv", text(f"text,label\n{GOOD}", "utf-16-le"), {}, "binary"),
    "UTF-32": ("x.jsonl", text(f"text,label\n{GOOD}", "utf-32"), {}, "UTF-16 or UTF-32"),
    "Latin-1": ("x.csv", text(f"text,label\n{GOOD}Käse,red\n", "latin-1"), {}, "not UTF-8.*0xe4"),
    "Latin-1 jsonl": ("x.jsonl", raw(b'{"text": "K\xe4se", "label": "red"}\n'), {}, "not UTF-8"),
    "Windows-1252": ("x.tsv", raw(b"text\tlabel\n\x93x\x94\tred\n"), {}, "not UTF-8"),
    "NUL": ("x.csv", text(f"text,label\n{GOOD}a\0b,red\n"), {}, "NUL byte"),
    "column missing": (
        "x.csv",
        text(f"words,label\n{GOOD}"),
        {},
        "task.text is 'text'; allowed: a column of .*words, label",
    ),
    "label missing": (
        "x.csv",
        text(f"text,class\n{GOOD}"),
        {},
        "task.label is 'label'; allowed: a column of .*text, class",
    ),
    "no header": ("x.csv", text(GOOD), {}, "task.text is 'text'; allowed: a column"),
    "semicolons": ("x.csv", text(f"text;label\n{GOOD.replace(',', ';')}"), {}, "a column of .*text;label"),
    "column twice": (
        "x.csv",
        text(f"text,label,text\n{GOOD.replace(chr(10), ',x' + chr(10))}"),
        {},
        "column 'text' twice",
    ),
    "ragged": ("x.csv", text(f"text,label\n{GOOD}a,b,c,d\n"), {}, "cannot be loaded.*line 42"),
    "open quote": ("x.csv", text(f'text,label\n{GOOD}"a,red\n'), {}, "cannot be loaded"),
    "one class": (
        "x.csv",
        text("text,label\n" + "".join(f"w{i},red\n" for i in range(40))),
        {},
        "same label, 'red'.*two classes",
    ),
    "no labels": (
        "x.csv",
        text("text,label\n" + "".join(f"w{i},\n" for i in range(40))),
        {},
        "none of its 40 rows has both text and label",
    ),
    "no texts": ("x.csv", text("text,label\n" + ",red\n" * 40), {}, "none of its 40 rows has both text and label"),
    "one example": ("x.csv", text("text,label\na,red\n"), {}, "data with more examples"),
    "two examples": ("x.csv", text("text,label\na,red\nb,blue\n"), {}, "data with more examples"),
    "one document": ("x.csv", text("text,label\n" + "a,red\n" * 40), {}, "data with more examples"),
    "fractions as labels": (
        "x.csv",
        text("text,label\n" + "".join(f"w{i},{i}.5\n" for i in range(40))),
        {},
        "set task.kind to regression",
    ),
    "lists as labels": (
        "x.jsonl",
        lines([{"text": a, "label": [b]} for a, b in ROWS]),
        {},
        "a list, which is not a class",
    ),
    "objects as labels": (
        "x.jsonl",
        lines([{"text": a, "label": {"x": b}} for a, b in ROWS]),
        {},
        "a dict, which is not a class",
    ),
    "words as numbers": (
        "x.csv",
        text(f"text,label\n{GOOD}"),
        {"kind": "regression", "metric": "mse"},
        "'red', which is not a number",
    ),
    "infinite numbers": (
        "x.csv",
        text("text,label\n" + "".join(f"w{i},inf\n" for i in range(40))),
        {"kind": "regression", "metric": "mse"},
        "an infinite number",
    ),
    "numbers beyond float32": (
        "x.jsonl",
        lines([{"text": f"w{i}", "label": 1e300} for i in range(40)]),
        {"kind": "regression", "metric": "mse"},
        "beyond float32",
    ),
    "numbers all missing": (
        "x.jsonl",
        lines([{"text": f"w{i}", "label": None} for i in range(40)]),
        {"kind": "regression", "metric": "mse"},
        "none of its 40 rows",
    ),
    "no objects": ("x.jsonl", text("1\n2\n3\n"), {}, "cannot be loaded|a column of"),
    "broken json": ("x.jsonl", text('{"text": "a", "label": "b"}\n{"text": \n'), {}, "cannot be loaded"),
    "json of another shape": ("x.json", text('{"data": {"x": 1}}'), {}, "cannot be loaded|a column of"),
    "mixed types": (
        "x.jsonl",
        lines([{"text": "a", "label": 1}, {"text": "b", "label": {"x": 1}}] * 20),
        {},
        "cannot be loaded|not a class",
    ),
    "sizes too large": (
        "x.csv",
        text(f"text,label\n{GOOD}"),
        {"validation_size": 1000},
        "task.validation_size is 1000; allowed: at most 34",
    ),
    "split missing": (
        "x.csv",
        text(f"text,label\n{GOOD}"),
        {"test_split": "test"},
        "task.test_split is 'test'; allowed: a split of",
    ),
    "template of no column": (
        "x.csv",
        text(f"text,label\n{GOOD}"),
        {"kind": "causal_lm", "metric": "loss", "prompt": "{words}", "completion": "{label}"},
        "a template with columns",
    ),
    "template with attributes": (
        "x.csv",
        text("a.b,a\n1,2\n"),
        {"kind": "causal_lm", "metric": "loss", "prompt": "{a.b}", "completion": "{a}"},
        "a template with columns",
    ),
    "template of great width": (
        "x.csv",
        text(f"text,label\n{GOOD}"),
        {"kind": "causal_lm", "metric": "loss", "prompt": "{text:>999999999}", "completion": "{label}"},
        "a template with columns",
    ),
    "folder without files": ("folder", lambda file: file.mkdir(), {}, "cannot be loaded"),
    "no file": ("x.csv", lambda file: None, {}, "There is no data file"),
    "another suffix": ("x.xlsx", raw(b"PK\3\4"), {}, "not a hub id either"),
}
READ: dict[str, tuple[str, Write, dict[str, Any], int]] = {
    "plain": ("x.csv", text(f"text,label\n{GOOD}"), {}, 40),
    "mark of UTF-8": ("x.csv", text(f"text,label\n{GOOD}", "utf-8-sig"), {}, 40),
    "Windows lines": ("x.csv", text(f"text,label\n{GOOD}".replace("\n", "\r\n")), {}, 40),
    "more columns": (
        "x.csv",
        text("id,text,label,,\n" + "".join(f"{i},{a},{b},,\n" for i, (a, b) in enumerate(ROWS))),
        {},
        40,
    ),
    "some rows without text": ("x.csv", text(f"text,label\n{GOOD},red\n ,blue\nw9 w1,\n"), {}, 40),
    "NA is a word": ("x.csv", text(f"text,label\n{GOOD}NA null w7,red\n"), {}, 41),
    "a huge line": ("x.csv", text(f"text,label\n{GOOD}{'w1 ' * 100_000},red\n"), {}, 41),
    "a huge line of json": ("x.jsonl", lines([*objects(), {"text": "w1 " * 100_000, "label": "red"}]), {}, 41),
    "whole numbers as labels": (
        "x.csv",
        text("text,label\n" + "".join(f"{a},{i % 3}\n" for i, (a, _) in enumerate(ROWS))),
        {},
        40,
    ),
    "whole floats as labels": (
        "x.csv",
        text("text,label\n" + "".join(f"{a},{i % 3}.0\n" for i, (a, _) in enumerate(ROWS))),
        {},
        40,
    ),
    "truth as label": ("x.jsonl", lines([{"text": a, "label": i % 2 == 0} for i, (a, _) in enumerate(ROWS)]), {}, 40),
    "numbers as text": ("x.jsonl", lines([{"text": i, "label": b} for i, (_, b) in enumerate(ROWS)]), {}, 40),
    "quotes and newlines": ("x.csv", text('text,label\n"w1 ""w2"", w3\nw4",red\n' + GOOD), {}, 41),
    "other scripts": ("x.jsonl", lines([*objects(), {"text": "日本語 \U0001f600 \u202e", "label": "red"}]), {}, 41),
    "parquet": ("x.parquet", parquet({"text": TEXTS, "label": LABELS}), {}, 40),
    "upper-case suffix": ("X.CSV", text(f"text,label\n{GOOD}"), {}, 40),
    "json list": ("x.json", text(json.dumps(objects())), {}, 40),
}


def load(file: Path, changes: dict[str, Any], tokenizer: Counting, more: dict[str, Any] | None = None) -> TaskData:
    values = {"kind": "classification", "test_split": None, "max_length": 16, **changes, **(more or {})}
    return load_task(TaskSpec(str(file), **values), tokenizer, file.parent / "cache")


@pytest.mark.parametrize("name", REFUSED)
def test_bad_data_are_told_in_a_sentence(name: str, tmp_path: Path, words: Counting, letters: Counting) -> None:
    file, write, changes, expected = REFUSED[name]
    write(tmp_path / file)
    with pytest.raises(Exception) as caught:
        load(tmp_path / file, changes, letters if "prompt" in changes else words)
    told = paragraph(caught.value)
    assert exit_code(caught.value) in (1, 2), told
    assert re.search(expected, told), told
    assert "\n" not in told and len(told) < 1500


@pytest.mark.parametrize("name", READ)
def test_unusual_data_are_read_as_they_should_be(name: str, tmp_path: Path, words: Counting) -> None:
    file, write, changes, number = READ[name]
    write(tmp_path / file)
    splits = load(tmp_path / file, changes, words).report["splits"]
    assert sum(split["available"] + split["overlapping"] for split in splits.values()) == number


@pytest.mark.parametrize("role", ["validation", "test"])
def test_labels_that_train_lacks_are_listed(role: str, tmp_path: Path, words: Counting) -> None:
    (tmp_path / "train.csv").write_text(f"text,label\n{GOOD}")
    (tmp_path / "other.csv").write_text("text,label\nw100 w101,red\nw102 w103,green\n")
    paths = {"train": "train.csv", role: "other.csv"}
    card = {"configs": [{"config_name": "default", "data_files": [{"split": s, "path": p} for s, p in paths.items()]}]}
    (tmp_path / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    with pytest.raises(Exception, match=f"The {role} split of .* has labels that train never shows: green"):
        load(tmp_path, {f"{role}_split": role}, words)


@pytest.mark.parametrize("label", [7, -2])
def test_a_number_of_no_class_is_refused(label: int, tmp_path: Path, words: Counting) -> None:
    features = {"text": {"_type": "Value", "dtype": "string"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    table = pa.table({"text": TEXTS, "label": [label, *([0, 1] * 20)[1:]]})
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(meta), tmp_path / "x.parquet")
    with pytest.raises(Exception, match=r"none of its 2 classes|cannot be loaded"):
        load(tmp_path / "x.parquet", {}, words)
