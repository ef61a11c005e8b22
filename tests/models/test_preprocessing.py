"""A task for a model: prepared once, and anew where its documents or its tokenizer are others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from src.data import TokenSplit
from src.models import preprocessing
from src.models.preprocessing import load_data
from src.spec import ModelSpec, TaskSpec
from tests.tiny_files import save_model, word_tokenizer, write_csv


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    return ModelSpec(str(save_model(tmp_path / "model")))


@pytest.fixture
def task(tmp_path: Path) -> TaskSpec:
    file = write_csv(tmp_path / "rows.csv")
    return TaskSpec(str(file), "classification", text="text", label="label", test_split=None, max_length=16)


def ids(model: ModelSpec, task: TaskSpec, cache: Path) -> torch.Tensor:
    """Of train."""
    split = load_data(model, task, cache).train
    assert isinstance(split, TokenSplit)
    return split.input_ids


def test_a_second_start_neither_loads_the_tokenizer_nor_reads_documents(
    model: ModelSpec, task: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ids(model, task, tmp_path / "cache")
    monkeypatch.delattr(preprocessing, "load_task")
    monkeypatch.delattr(preprocessing, "load_tokenizer")
    assert torch.equal(ids(model, task, tmp_path / "cache"), first)
    with pytest.raises(NameError):
        ids(model, task, tmp_path / "other")


def test_another_tokenizer_cuts_anew(model: ModelSpec, task: TaskSpec, tmp_path: Path) -> None:
    first = ids(model, task, tmp_path / "cache")
    word_tokenizer(cls=False).save_pretrained(model.path)
    assert len(ids(model, task, tmp_path / "cache")) < len(first)  # without [CLS] and [SEP]


def test_other_documents_are_read_anew(model: ModelSpec, task: TaskSpec, tmp_path: Path) -> None:
    first = ids(model, task, tmp_path / "cache")
    write_csv(tmp_path / "rows.csv", seed=1)
    assert not torch.equal(ids(model, task, tmp_path / "cache"), first)


def test_other_weights_are_the_same_tokens(model: ModelSpec, task: TaskSpec, tmp_path: Path) -> None:
    ids(model, task, tmp_path / "cache")
    (Path(model.path) / "model.safetensors").write_bytes(b"other weights")
    ids(model, task, tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "tasks").iterdir())) == 1
