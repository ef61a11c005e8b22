"""What a finished lane leaves: an adapter that names its base, the head, the predictions; whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

from src.errors import WriteError
from src.experiment.artifacts import save_lane
from src.models.adapted import AdaptedModel
from src.models.loading import load_base
from src.records import RunPaths
from src.spec import ModelSpec, TaskKind
from tests.tiny import shake, tiny_cell, tiny_data, token_ids
from tests.tiny_files import save_model


def make(folder: Path, kind: TaskKind, targets: str) -> AdaptedModel:
    save_model(folder, "gpt2", causal_lm=kind == "causal_lm")
    options = {"device": torch.device("cpu"), "dtype": torch.float32, "attention": "sdpa"}
    base, data = load_base(ModelSpec(str(folder)), kind, folder, **options), tiny_data(kind)
    setup = tiny_cell(data, base, targets=targets, rank=None if targets == "none" else 2)
    model = AdaptedModel(base, [setup], num_labels=data.num_labels, pad_id=1)
    shake(model)
    return model


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


ADAPTER = ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("kind", "targets", "left"),
    [
        ("classification", "qv", [*ADAPTER, "head.safetensors", "predictions.safetensors"]),
        ("classification", "none", ["head.safetensors", "predictions.safetensors"]),
        ("causal_lm", "qv", [*ADAPTER, "predictions.safetensors"]),
    ],
)
def test_a_lane_leaves_what_it_has(tmp_path: Path, kind: TaskKind, targets: str, left: list[str]) -> None:
    model, run = make(tmp_path / "model", kind, targets), RunPaths(tmp_path / "run")
    save_lane(model, 0, run, {"prediction": torch.tensor([2, 0, 1])})
    assert files(run.root) == left
    assert load_file(run.predictions)["prediction"].tolist() == [2, 0, 1]
    if kind == "classification":
        head = load_file(run.head)
        assert {name: tuple(value.shape) for name, value in head.items()} == {"head.weight": (3, 16), "head.bias": (3,)}
        assert torch.equal(head["head.weight"], model.heads[0]["head.weight"])


def test_peft_finds_the_base_by_itself(tmp_path: Path) -> None:
    model, run = make(tmp_path / "model", "causal_lm", "qkvo"), RunPaths(tmp_path / "run")
    save_lane(model, 0, run, {})
    assert json.loads(run.adapter_config.read_text())["base_model_name_or_path"] == str(tmp_path / "model")
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(run.adapter)
    ids = token_ids(2, 6)
    with torch.no_grad():
        mine = model.base.model(input_ids=ids).logits
        torch.testing.assert_close(mine, theirs(input_ids=ids).logits, rtol=1e-6, atol=1e-6)


def test_saving_again_takes_the_place_of_what_was_saved(tmp_path: Path) -> None:
    model, run = make(tmp_path / "model", "classification", "qv"), RunPaths(tmp_path / "run")
    save_lane(model, 0, run, {"prediction": torch.tensor([0])})
    before = run.adapter_weights.read_bytes()
    torch.nn.init.ones_(next(iter(model.adapter_parameters(0).values())))
    save_lane(model, 0, run, {"prediction": torch.tensor([1])})
    assert run.adapter_weights.read_bytes() != before
    assert load_file(run.predictions)["prediction"].tolist() == [1]
    assert files(run.root) == [*ADAPTER, "head.safetensors", "predictions.safetensors"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    model = make(tmp_path / "model", "classification", "qv")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"Cannot write adapter_model.safetensors in .*Not a directory"):
        save_lane(model, 0, RunPaths(tmp_path / "file"), {})
