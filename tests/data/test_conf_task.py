"""conf/task: every file is a valid TaskSpec, says what it is, and explains each of its keys."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from src.spec import TEXT_KINDS, LoraSpec, ModelSpec, OptimSpec, RunSpec, TaskSpec, TrainerSpec, normalise

FILES = sorted((Path(__file__).resolve().parents[2] / "conf" / "task").glob("*.yaml"))
GLUE = {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"}


def test_the_promised_tasks_are_there() -> None:
    assert {file.stem for file in FILES} >= {"r52", "r8", "newsgroups20", "pydoc", "pydoc_seq2seq", "e2e_nlg", *GLUE}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file(file: Path) -> None:
    text = file.read_text()
    values = yaml.safe_load(text)
    task = TaskSpec(**values)
    run = RunSpec(ModelSpec("asset:minilm"), task, LoraSpec("q", 1, None, 1.0), OptimSpec(1e-3, 1e-3), TrainerSpec())
    assert normalise(run).task == task
    lines = text.splitlines()
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    command = f"# Command: python -m src.train{'' if file.stem == 'r52' else ' '}"
    assert any(line.startswith(command) for line in header)
    assert file.stem == "r52" or any(f"task={file.stem}" in line for line in header)
    for key in values:
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"{key}:")]
        assert " # " in lines[at] or lines[at - 1].startswith("# "), key
    if file.stem == "own":  # for all kinds of tasks, so it names every key
        assert set(values) == {field.name for field in dataclasses.fields(TaskSpec)}
        return
    unused = {"text", "text_pair", "label"} if task.kind in TEXT_KINDS else {"prompt", "completion"}
    assert not unused & set(values)
    assert set(values) <= {field.name for field in dataclasses.fields(TaskSpec)}


@pytest.mark.parametrize("name", sorted(GLUE))
def test_glue_never_uses_the_hidden_test_labels(name: str) -> None:
    values = yaml.safe_load(next(file for file in FILES if file.stem == name).read_text())
    assert values["subset"] == name
    assert values["validation_split"] is None
    assert values["test_split"] == ("validation_matched" if name == "mnli" else "validation")
