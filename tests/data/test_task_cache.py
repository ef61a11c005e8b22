"""A second start has the same examples, made of the same contents by the same tokenizer; or it makes them anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from src.data import TaskData, TokenSplit, cached_task, load_task, read_task, write_task
from src.data.task_cache import FIELDS
from src.spec import TaskSpec
from tests.data.test_task import write_rows

MADE_BY = "0" * 64
KINDS = ["classification", "regression", "causal_lm", "seq2seq"]


def make(kind: Any, folder: Path, words: Any, letters: Any) -> TaskData:
    """Forty rows of two columns and a target."""
    path = write_rows(folder / "rows.jsonl", [i % 4 if kind == "classification" else i / 4 for i in range(40)])
    spec = TaskSpec(path, kind, text="a", label="y", test_split=None, max_length=40)
    if kind in {"causal_lm", "seq2seq"}:
        spec = dataclasses.replace(spec, prompt="{a} =", completion=" {y}", metric="loss")
    if kind == "regression":
        spec = dataclasses.replace(spec, text_pair="b", metric="mse")
    return load_task(spec, letters if spec.prompt else words, folder / "cache")


def same(one: TaskData, other: TaskData) -> bool:
    """Whether all fields are equal, tensors by value."""
    for role in ("train", "validation", "test"):
        for name in FIELDS:
            a, b = getattr(getattr(one, role), name), getattr(getattr(other, role), name)
            if (a is None) != (b is None) or (a is not None and (a.dtype != b.dtype or not torch.equal(a, b))):
                return False
    plain = ("spec", "label_names", "num_labels", "pad_id", "report", "test_completions")
    return all(getattr(one, name) == getattr(other, name) for name in plain)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_was_written(kind: str, tmp_path: Path, words: Any, letters: Any) -> None:
    data = make(kind, tmp_path, words, letters)
    path = cached_task(data.spec, MADE_BY, tmp_path / "cache")
    assert path is not None
    assert read_task(path, data.spec) is None
    write_task(path, data)
    read = read_task(path, data.spec)
    assert read is not None
    assert same(read, data)


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, words: Any, letters: Any) -> None:
    data, path = make("classification", tmp_path, words, letters), tmp_path / "task.safetensors"
    write_task(path, data)
    whole = path.read_bytes()
    for damaged in (whole[:-8], b"", whole[:-1] + bytes([whole[-1] ^ 1]), whole.replace(b"pad_id", b"pad_ix", 1)):
        path.write_bytes(damaged)
        assert read_task(path, data.spec) is None


def test_the_place_follows_from_all_that_decides_the_examples(tmp_path: Path, words: Any, letters: Any) -> None:
    data = make("classification", tmp_path, words, letters)
    places = [cached_task(data.spec, MADE_BY, tmp_path)]
    places.append(cached_task(data.spec, "1" * 64, tmp_path))
    changes: list[dict[str, Any]] = [{"max_length": 7}, {"split_seed": 1}, {"train_size": 9}, {"label": "b"}]
    places += [cached_task(dataclasses.replace(data.spec, **change), MADE_BY, tmp_path) for change in changes]
    write_rows(tmp_path / "rows.jsonl", [i % 3 for i in range(40)])
    places.append(cached_task(data.spec, MADE_BY, tmp_path))
    assert None not in places
    assert len(set(places)) == len(places)
    write_rows(tmp_path / "rows.jsonl", [i % 4 for i in range(40)])
    assert cached_task(data.spec, MADE_BY, tmp_path) == places[0]


@pytest.mark.parametrize("path", ["owner/name", "asset:unknown", "digits", "no-such-file.csv"])
def test_what_can_change_under_its_name_is_not_kept(path: str, tmp_path: Path) -> None:
    assert cached_task(TaskSpec(path, "classification"), MADE_BY, tmp_path) is None


def test_pictures_have_caches_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("image,label\n")
    assert cached_task(TaskSpec(str(file), "classification", image="image"), MADE_BY, tmp_path) is None


def test_both_files_of_a_task_count(tmp_path: Path) -> None:
    train, test = tmp_path / "a.csv", tmp_path / "b.csv"
    train.write_text("text,label\na,b\n")
    test.write_text("text,label\nc,d\n")
    spec = TaskSpec(str(train), "classification", test_path=str(test))
    first = cached_task(spec, MADE_BY, tmp_path)
    test.write_text("text,label\nc,e\n")
    assert cached_task(spec, MADE_BY, tmp_path) != first


def test_every_field_of_a_split_is_kept() -> None:
    assert set(FIELDS) == {field.name for field in dataclasses.fields(TokenSplit)}
