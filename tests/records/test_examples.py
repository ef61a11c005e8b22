from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from src.records import RunPaths, Skipped, StudyPaths
from src.records.examples import ExampleFiles, Examples, read_examples
from tests.record_factory import make_record, make_spec


def folder(tmp_path: Path, **tensors: torch.Tensor) -> RunPaths:
    run = RunPaths(tmp_path / "run")
    run.root.mkdir()
    save_file(tensors, run.predictions)
    return run


def read(run: RunPaths) -> Examples:
    examples = read_examples(run)
    assert isinstance(examples, Examples)
    return examples


def test_what_training_writes_is_read(tmp_path: Path) -> None:
    examples = read(folder(tmp_path, prediction=torch.tensor([1, 0, 2]), target=torch.tensor([1, 1, 2])))
    assert len(examples) == 3
    assert examples.columns["prediction"].dtype == np.float64
    assert {name: list(column) for name, column in examples.columns.items()} == {
        "prediction": [1, 0, 2],
        "target": [1, 1, 2],
    }


def test_losses_of_a_language_model(tmp_path: Path) -> None:
    examples = read(folder(tmp_path, loss=torch.tensor([1.5, 2.5]), tokens=torch.tensor([3, 4])))
    assert {name: list(column) for name, column in examples.columns.items()} == {"loss": [1.5, 2.5], "tokens": [3, 4]}


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"prediction": torch.ones(3)}, "neither prediction and target nor loss and tokens"),
        ({"prediction": torch.ones(3), "target": torch.ones(2)}, "equally long"),
        ({"prediction": torch.ones(3, 2), "target": torch.ones(3, 2)}, "equally long"),
        ({"prediction": torch.ones(0), "target": torch.ones(0)}, "equally long"),
        ({"loss": torch.ones(3, dtype=torch.float8_e4m3fn), "tokens": torch.ones(3)}, "plain numbers"),
    ],
)
def test_what_cannot_be_used_has_a_reason(tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str) -> None:
    skipped = read_examples(folder(tmp_path, **tensors))
    assert isinstance(skipped, Skipped)
    assert reason in skipped.reason


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 100, b'\x08\0\0\0\0\0\0\0{"a":1}x'])
def test_a_corrupt_file_has_a_reason(tmp_path: Path, content: bytes) -> None:
    run = RunPaths(tmp_path)
    run.predictions.write_bytes(content)
    skipped = read_examples(run)
    assert isinstance(skipped, Skipped)
    assert "not a safetensors file" in skipped.reason


def test_a_missing_file_and_a_folder_in_its_place_have_a_reason(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    assert read_examples(run) == Skipped(run.predictions, "No such file or directory")
    run.predictions.mkdir()
    assert read_examples(run) == Skipped(run.predictions, "Is a directory")


def test_a_study_keeps_what_could_not_be_read(tmp_path: Path) -> None:
    paths = StudyPaths.of(tmp_path, "study")
    good, bad = make_record(make_spec()), make_record(make_spec(seed=1))
    paths.run(good.run_id).root.mkdir(parents=True)
    save_file({"prediction": torch.ones(2), "target": torch.ones(2)}, paths.run(good.run_id).predictions)
    examples_of = ExampleFiles(paths)
    assert examples_of(good) is not None
    assert examples_of(bad) is None
    assert examples_of(bad) is None
    assert [skipped.path for skipped in examples_of.skipped] == [paths.run(bad.run_id).predictions]


def test_reading_needs_no_torch() -> None:
    code = "import sys, src.records.examples; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
