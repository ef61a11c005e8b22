"""From a spec to batches: all three kinds of task, on files made here and on the default data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from src.data import collate, epoch_batches, load_task
from src.spec import TaskSpec


def write_rows(path: Path, labels: list[Any]) -> str:
    """w0 ... w9, w1 ... w10 and so on, each with a label."""
    rows = [
        {"a": " ".join(f"w{i + j}" for j in range(1 + i % 10)), "b": f"w{i % 7}", "y": y} for i, y in enumerate(labels)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def classify(tmp_path: Path) -> TaskSpec:
    path = write_rows(tmp_path / "rows.jsonl", ["red", "green", "blue"] * 40)
    return TaskSpec(path, "classification", text="a", label="y", test_split=None, max_length=8, validation_size=12)


def test_classification(classify: TaskSpec, words: Any, tmp_path: Path) -> None:
    task = load_task(classify, words, tmp_path / "cache")
    assert (task.label_names, task.num_labels, task.pad_id) == (("blue", "green", "red"), 3, words.pad_token_id)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [96, 12, 12]
    indices = epoch_batches(task.train.lengths, 16, seed=0, epoch=0)[0]
    batch = collate(task.train, indices, task.pad_id)
    assert batch.length <= 8
    for ids, label in zip(batch.input_ids.tolist(), batch.labels.tolist(), strict=True):
        first_word = words.decode([ids[1]])
        source_row = int(first_word[1:])
        assert (task.label_names or ())[label] == ["red", "green", "blue"][source_row % 3]


def test_the_report_is_plain_json_and_adds_up(classify: TaskSpec, words: Any, tmp_path: Path) -> None:
    task = load_task(classify, words, tmp_path / "cache")
    assert json.loads(json.dumps(task.report, allow_nan=False)) == task.report
    assert task.report["majority_share"] == pytest.approx(1 / 3)
    train = task.report["splits"]["train"]
    assert train["tokens"] == int(task.train.lengths.sum())
    assert train["truncated"] > 0
    assert sum(split["examples"] for split in task.report["splits"].values()) == 120


def test_second_start_does_not_tokenise_and_is_the_same(classify: TaskSpec, words: Any, tmp_path: Path) -> None:
    first = load_task(classify, words, tmp_path / "cache")
    words.calls = 0
    again = load_task(classify, words, tmp_path / "cache")
    assert words.calls == 0
    assert again.report == first.report
    for name in ("input_ids", "offsets", "labels"):
        assert torch.equal(getattr(again.train, name), getattr(first.train, name))


def test_fingerprint_follows_the_data_only(classify: TaskSpec, words: Any, letters: Any, tmp_path: Path) -> None:
    first = load_task(classify, words, tmp_path / "cache").report["sha256"]
    longer = dataclasses.replace(classify, max_length=9)
    assert load_task(longer, letters, tmp_path / "cache").report["sha256"] == first
    other = dataclasses.replace(classify, split_seed=1)
    assert load_task(other, words, tmp_path / "cache").report["sha256"] != first


def test_pairs_and_numbers(words: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [i / 4 for i in range(40)])
    spec = TaskSpec(path, "regression", text="a", text_pair="b", label="y", test_split=None, metric="mse")
    task = load_task(spec, words, tmp_path / "cache")
    assert (task.label_names, task.num_labels, task.report["majority_share"]) == (None, 1, None)
    batch = collate(task.train, torch.arange(4), task.pad_id)
    assert batch.labels.dtype == torch.float32
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.sum(1).tolist() == [2, 2, 2, 2]  # the second text and its [SEP]


def test_completions_without_a_pad_token(letters: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [f"answer {i}" for i in range(40)])
    spec = TaskSpec(path, "causal_lm", prompt="{a} =", completion=" {y}", test_split=None, max_length=40, metric="loss")
    task = load_task(spec, letters, tmp_path / "cache")
    assert (task.label_names, task.num_labels, task.pad_id) == (None, 0, letters.eos_token_id)
    batch = collate(task.train, torch.arange(5), task.pad_id)
    for ids, labels in zip(batch.input_ids, batch.labels, strict=True):
        completion = labels[labels >= 0].tolist()
        assert completion[-1] == letters.eos_token_id
        assert letters.decode(completion[:-1]).startswith(" answer ")
        assert ids[labels >= 0].tolist() == completion


@pytest.mark.assets
def test_the_default_task(cache_dir: Path) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415 - slow, and only here

    tokenizer = AutoTokenizer.from_pretrained(cache_dir / "assets" / "minilm-0.1.0")
    spec = TaskSpec("asset:r52", "classification", train_size=2000, validation_size=500, max_length=64)
    task = load_task(spec, tokenizer, cache_dir)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [2000, 500, 2562]
    assert (task.num_labels, task.pad_id) == (52, 0)
    assert task.train.labels is not None
    assert len(task.train.labels.unique()) == 52
    assert int(task.train.lengths.max()) == 64
    assert 0.4 < task.report["majority_share"] < 0.5
