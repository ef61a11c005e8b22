"""Local files of every format, folders, and one readable error for each thing that can be missing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from src.data.sources import load_rows
from src.errors import ConfigError, HarnessError
from src.spec import TaskSpec

ROWS = [{"text": 'good, "very"\ngood', "label": 1, "extra": 0}, {"text": "NA", "label": 0, "extra": 1}]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    frame = pd.DataFrame(rows)
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".json":
            path.write_text(json.dumps(rows))
        case ".parquet":
            frame.to_parquet(path)
    return path


def spec_of(path: Path | str, **values: object) -> TaskSpec:
    return TaskSpec(str(path), "classification", **{"test_split": None, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data{suffix}", ROWS)
    rows = load_rows(spec_of(path), tmp_path / "cache")
    assert list(rows) == ["train"]
    assert rows["train"].column_names == ["text", "label"]
    assert rows["train"]["text"][:] == [row["text"] for row in ROWS]
    assert [str(label) for label in rows["train"]["label"]] == ["1", "0"]


def test_a_second_file_is_the_test_split_in_another_format_too(tmp_path: Path) -> None:
    spec = spec_of(
        write(tmp_path / "a.csv", ROWS), test_path=str(write(tmp_path / "b.jsonl", ROWS[:1])), test_split="test"
    )
    rows = load_rows(spec, tmp_path / "cache")
    assert {role: len(found) for role, found in rows.items()} == {"train": 2, "test": 1}


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    load_rows(spec_of(path), tmp_path / "cache")
    write(path, [{"text": "new", "label": 5, "extra": 0}])
    os.utime(path, ns=(1, 1))
    assert load_rows(spec_of(path), tmp_path / "cache")["train"]["text"][:] == ["new"]


def test_an_empty_field_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n,x\nnull,y\n")
    assert load_rows(spec_of(tmp_path / "a.csv"), tmp_path / "cache")["train"]["text"][:] == [None, "null"]


def test_a_folder_gives_its_splits(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "train.csv", ROWS)
    write(folder / "test.csv", ROWS[:1])
    rows = load_rows(spec_of(folder, test_split="test"), tmp_path / "cache")
    assert {role: len(found) for role, found in rows.items()} == {"train": 2, "test": 1}


def test_everything_cached_lies_under_the_cache_folder(tmp_path: Path) -> None:
    load_rows(spec_of(write(tmp_path / "a.csv", ROWS)), tmp_path / "cache")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", "cache"]
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["datasets"]


@pytest.mark.parametrize(
    ("values", "key", "match"),
    [
        ({"text": "body"}, "task.text", "text, label, extra"),
        ({"text_pair": "second"}, "task.text_pair", "text, label, extra"),
        ({"label": "class"}, "task.label", "text, label, extra"),
        ({"test_split": "test"}, "task.test_split", "a split of .*: train, or null"),
        ({"train_split": "training"}, "task.train_split", "a split of .*: train"),
        ({"validation_split": "train"}, "task.train_split", "another split"),
        ({"test_path": "b.csv"}, "task.test_path", "no|null"),
        ({"kind": "causal_lm", "prompt": "{body}", "completion": "{label}"}, "task.prompt", "text, label, extra"),
        ({"kind": "causal_lm", "prompt": "{text}", "completion": "x"}, "task.completion", "text, label, extra"),
    ],
)
def test_a_wrong_value_lists_what_there_is(values: dict[str, object], key: str, match: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    if "test_path" in values:
        values = {"test_path": str(write(tmp_path / "b.csv", ROWS))}
    fields = {"path": str(path), "kind": "classification", "test_split": None, **values}
    with pytest.raises(ConfigError, match=match) as caught:
        load_rows(TaskSpec(**fields), tmp_path / "cache")  # type: ignore[arg-type]
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


def test_a_test_file_beside_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.test_path"):
        load_rows(spec_of(tmp_path, test_path="b.csv"), tmp_path / "cache")


def test_a_column_that_only_train_has(tmp_path: Path) -> None:
    test = write(tmp_path / "b.csv", [{"text": "a", "other": 1}])
    spec = spec_of(write(tmp_path / "a.csv", ROWS), test_path=str(test), test_split="test")
    with pytest.raises(HarnessError, match=r"test split of .* has no column label.*text, other"):
        load_rows(spec, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b""), ("a.json", b"{nope"), ("a.jsonl", b"{nope"), ("a.parquet", b"x"), ("a.csv", b'a,b\n"x,1\n')],
)
def test_an_unreadable_file_is_one_paragraph(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HarnessError, match=r"cannot be loaded: |is empty; it needs a row") as caught:
        load_rows(spec_of(tmp_path / name), tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere.csv", "nowhere", "csv", "./a/b", "a/b/c", "~/nowhere.parquet"])
def test_what_is_not_there_says_what_may_be_given(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessError, match=r"There is no data.*\.?parquet"):
        load_rows(spec_of(path), tmp_path / "cache")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarnessError, match="doesn't contain any data files"):
        load_rows(spec_of(tmp_path / "empty"), tmp_path / "cache")


def test_without_a_network_a_hub_id_names_what_needs_none(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"hub cannot be reached.*asset:r52.*pydoc") as caught:
        load_rows(spec_of("nyu-mll/glue", subset="sst2"), tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.assets
def test_a_model_asset_holds_no_documents(cache_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.path is 'asset:minilm'"):
        load_rows(spec_of("asset:minilm"), cache_dir)


@pytest.mark.assets
def test_reuters_is_complete(cache_dir: Path) -> None:
    rows = load_rows(spec_of("asset:r52", test_split="test"), cache_dir)
    assert {role: len(found) for role, found in rows.items()} == {"train": 6532, "test": 2568}
    assert len(set(rows["train"]["label"])) == 52
    assert None not in rows["train"]["text"][:]
