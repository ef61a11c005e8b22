"""Models of pictures: which part of a checkpoint is loaded, what fits them, and lanes that do not see each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPVisionModel, ViTModel

from src.data import PictureProcessor, collate
from src.errors import ConfigError, HarnessError
from src.experiment.resolve import resolve_cell
from src.models.adapted import AdaptedModel
from src.models.loading import load_base, outline
from src.models.preprocessing import load_preprocessor
from src.spec import LoraSpec, ModelSpec, OptimSpec, RunSpec, TaskSpec, TrainerSpec, normalise
from src.training import train_pack
from src.training.evaluate import evaluate_lanes
from tests.tiny import Recorder, shake, start, tiny_cell
from tests.tiny_files import save_model
from tests.tiny_pictures import SIDE, TOKENS, picture_data, save_pictures_model, vision_base

CPU = torch.device("cpu")
TASK = TaskSpec("digits", "classification", image="image", test_split=None)
# Mixed ranks, targets, learning rates and seeds, all with dropout but the last two.
CELLS = [
    {"targets": "qv", "rank": 2, "lr": 1e-2, "dropout": 0.3},
    {"targets": "all", "rank": 4, "lr": 3e-3, "dropout": 0.5, "seed": 1},
    {"targets": "ko", "rank": 3, "lr": 2e-2, "dropout": 0.1, "dora": True},
    {"targets": "mlp", "rank": 1, "lr": 1e-2, "seed": 2},
    {"targets": "none", "rank": None, "head_lr": 2e-2},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    kinds = {name: save_pictures_model(root / name, name) for name in ("vit", "clip")}
    return {**kinds, "bert": save_model(root / "bert")}


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return load_base(ModelSpec(str(folder)), "classification", folder, device=CPU, dtype=dtype, attention="sdpa")


def spec(folder: Path, task: TaskSpec = TASK, **model: Any) -> RunSpec:
    lora, optim = LoraSpec("qv", 2, None, 8.0), OptimSpec(1e-2, 1e-2)
    return normalise(RunSpec(ModelSpec(str(folder), **model), task, lora, optim, TrainerSpec()))


@pytest.mark.parametrize(("name", "auto"), [("vit", ViTModel), ("clip", CLIPVisionModel)])
def test_the_part_that_sees_is_loaded(folders: dict[str, Path], name: str, auto: Any) -> None:
    """From a CLIP checkpoint with both halves; the outline agrees with it in every shape."""
    base = load(folders[name])
    assert isinstance(base.model, auto)
    plain = auto.from_pretrained(folders[name]).state_dict()
    assert all(torch.equal(value, plain[key]) for key, value in base.model.state_dict().items())
    drawn = outline(ModelSpec(str(folders[name])), "classification", folders[name])
    shapes = [{key: value.shape for key, value in b.model.state_dict().items()} for b in (base, drawn)]
    assert shapes[0] == shapes[1]
    assert (base.hidden_size, base.num_parameters) == (16, drawn.num_parameters)


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_the_processor_knows_how_many_tokens_its_model_makes(folders: dict[str, Path], name: str) -> None:
    processor = load_preprocessor(ModelSpec(str(folders[name])), TASK, folders[name])
    assert isinstance(processor, PictureProcessor)
    assert processor.shape == (3, SIDE, SIDE)
    hidden = load(folders[name]).backbone(pixel_values=torch.zeros(2, *processor.shape)).last_hidden_state
    assert processor.num_tokens == hidden.shape[1] == TOKENS


@pytest.mark.parametrize("model_type", ["vit", "clip"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_logits_are_those_of_plain_transformers(model_type: str, pooling: str) -> None:
    data, base = picture_data(), vision_base(model_type)
    batch = collate(data.test, torch.arange(5), data.pad_id)
    with torch.no_grad():
        hidden = base.backbone(pixel_values=batch.pixel_values.double()).last_hidden_state
    cell = tiny_cell(data, base, targets="none", rank=None)
    object.__setattr__(cell.spec.model, "pooling", pooling)
    model = AdaptedModel(base, [cell], num_labels=3, pad_id=0)
    (output,) = model.forward([batch], training=False)
    pooled = hidden.mean(dim=1) if pooling == "mean" else hidden[:, 0]
    expected = pooled @ model.heads[0]["head.weight"].T + model.heads[0]["head.bias"]
    torch.testing.assert_close(output.logits, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(output.targets, batch.labels)


@pytest.mark.parametrize("model_type", ["vit", "clip"])
def test_merged_is_unmerged(model_type: str) -> None:
    data, base = picture_data(), vision_base(model_type)
    model, _ = start(base, data, [tiny_cell(data, base, targets="all", rank=3)])
    shake(model)
    batch = collate(data.test, torch.arange(6), data.pad_id)
    (apart,) = model.forward([batch], training=False)
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    model.merge()
    (merged,) = model.forward([batch], training=False)
    torch.testing.assert_close(merged.logits, apart.logits, rtol=1e-10, atol=1e-10)
    model.unmerge()
    assert all(torch.equal(value, before[name]) for name, value in base.model.state_dict().items())


def run(cells: list[dict[str, Any]], kind: Any, model_type: str) -> list[Any]:
    """Train cells as one pack; (parameters, step losses, test metrics) of each."""
    base, data = vision_base(model_type, kind), picture_data(kind)
    setups = [tiny_cell(data, base, max_steps=50, accumulation=2, eval_every=50, **cell) for cell in cells]
    model, lanes = start(base, data, setups)
    recorder = Recorder()
    train_pack(model, data, lanes, recorder)
    results = evaluate_lanes(model, data.test, data, lanes)
    return [
        (model.state(lane.index), recorder.losses[lane.index], result.metrics)
        for lane, result in zip(lanes, results, strict=True)
    ]


@pytest.mark.parametrize(
    ("kind", "model_type", "cells"), [("classification", "vit", CELLS), ("regression", "clip", CELLS[:2])]
)
def test_packed_and_solo_agree_after_50_steps_in_float64(
    kind: Any, model_type: str, cells: list[dict[str, Any]]
) -> None:
    packed = run(cells, kind, model_type)
    for cell, together in zip(cells, packed, strict=True):
        (alone,) = run([cell], kind, model_type)
        assert len(alone[1]) == 50
        assert alone[1][-1] < alone[1][0]
        for mine, other in zip(together, alone, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_a_base_in_bfloat16_sees_pictures_in_bfloat16() -> None:
    data, base = picture_data(), vision_base("vit")
    base.model.to(torch.bfloat16)
    model, _ = start(base, data, [tiny_cell(data, base)])
    (output,) = model.forward([collate(data.test, torch.arange(4), 0)], training=True)
    assert output.logits.dtype == torch.float32
    assert output.logits.isfinite().all()


TEXTS = TaskSpec("asset:r52", "classification")
PAIRS = TaskSpec("digits", "classification", image="image", text_pair="b")
WRITES = TaskSpec("pydoc", "causal_lm", prompt="{a} ", completion="{b}", metric="loss")


@pytest.mark.parametrize(
    ("model", "task", "key", "message"),
    [
        ("bert", TASK, "task.image", "null with the bert model .*, which reads no pictures"),
        ("vit", TEXTS, "task.image", "a column of pictures with the vit model"),
        ("clip", TEXTS, "task.image", "a column of pictures with the clip_vision_model"),
        ("vit", PAIRS, "task.text_pair", "null for a task of pictures"),
        ("vit", WRITES, "task.kind", "classification or regression with the vit model .*, which reads pictures"),
    ],
)
def test_what_does_not_go_together(
    folders: dict[str, Path], model: str, task: TaskSpec, key: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_cell(spec(folders[model], task), folders[model])
    assert caught.value.key == key


def test_pictures_have_no_last_token(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="mean or first for pictures"):
        spec(folders["vit"], pooling="last")


def test_max_length_does_not_bind_pictures(folders: dict[str, Path]) -> None:
    task = TaskSpec("digits", "classification", image="image", test_split=None, max_length=100_000)
    assert resolve_cell(spec(folders["vit"], task), folders["vit"]).setup.projections


def test_a_processor_that_does_not_suit_its_model(tmp_path: Path) -> None:
    folder = save_pictures_model(tmp_path / "vit")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "size": {"height": 12, "width": 12}}))
    with pytest.raises(HarnessError, match=r"makes pictures of 3 x 12 x 12 values .* does not take: .*\(12\*12\)"):
        load_preprocessor(ModelSpec(str(folder)), TASK, tmp_path)


def test_a_model_without_an_image_processor(tmp_path: Path) -> None:
    folder = save_pictures_model(tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(HarnessError, match="could not be loaded"):
        load_preprocessor(ModelSpec(str(folder)), TASK, tmp_path)
