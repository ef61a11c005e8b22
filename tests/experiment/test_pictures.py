"""A study of pictures from specs to records, report and adapters, on scikit-learn's digits."""

from __future__ import annotations

import csv
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import ViTModel

from src.data import collate, load_task
from src.experiment.resolve import resolve_cells
from src.experiment.study import run_study
from src.models.preprocessing import load_preprocessor
from src.records import StudyPaths
from src.spec import LoraSpec, ModelSpec, OptimSpec, RunSpec, Settings, TaskSpec, TrackingSpec, TrainerSpec, normalise
from tests.experiment.workplace import record_of
from tests.tiny_pictures import TOKENS, save_pictures_model

TASK = TaskSpec("digits", "classification", image="image", test_split=None, validation_size=200, test_size=300)
CELLS = [("qv", 4), ("all", 8), ("none", None)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    save_pictures_model(root / "model", hidden_size=32, intermediate_size=64)
    return root


def specs(place: Path) -> list[RunSpec]:
    optim, trainer = OptimSpec(lr=2e-2, head_lr=2e-2), TrainerSpec(epochs=3, batch_size=32, dtype="float32")
    model = ModelSpec(str(place / "model"))
    loras = [LoraSpec(targets, rank, None, alpha=16.0) for targets, rank in CELLS]
    return [normalise(RunSpec(model, TASK, lora, optim, trainer)) for lora in loras]


def settings(place: Path) -> Settings:
    tracking = TrackingSpec("none")
    return Settings("digits", str(place / "out"), str(place / "cache"), device="cpu", tracking=tracking)


@pytest.fixture(scope="module")
def done(place: Path) -> StudyPaths:
    assert run_study(specs(place), settings(place)).num_failed == 0
    return StudyPaths.of(place / "out", "digits")


def test_adapters_learn_digits_over_random_features(place: Path, done: StudyPaths) -> None:
    """Chance is 0.1; the head alone sees only what a random model happens to show."""
    runs = [done.run(cell.run_id) for cell in resolve_cells(specs(place), place / "cache")]
    records = [record_of(run) for run in runs]
    scores = [record["metrics"]["test"]["accuracy"] for record in records]
    assert min(scores) > 0.3
    assert min(scores[:2]) > max(0.6, scores[2] + 0.1)
    for record in records:
        assert record["status"] == "completed"
        assert record["data"]["splits"]["test"] == {
            "examples": 300, "available": 300, "incomplete": 0, "overlapping": 0, "tokens": 300 * TOKENS
        }  # fmt: skip
        assert record["data"]["label_names"] == list("0123456789")
        assert record["time"]["tokens"] == 3 * 1297 * TOKENS
    assert [record["params"]["adapter"] for record in records] == [2 * 2 * 4 * 64, 2 * 8 * (4 * 64 + 2 * 96), 0]
    (table,) = [list(csv.DictReader(path.read_text().splitlines())) for path in done.root.glob("report/table.csv")]
    assert len(table) == len(CELLS)


def test_plain_peft_gives_the_same_predictions(place: Path, done: StudyPaths) -> None:
    run = done.run(resolve_cells(specs(place), place / "cache")[0].run_id)
    plain = ViTModel.from_pretrained(place / "model").eval()
    model = peft.PeftModel.from_pretrained(plain, run.root / "adapter")
    head = load_file(run.root / "head.safetensors")
    processor = load_preprocessor(ModelSpec(str(place / "model")), TASK, place / "cache")
    data = load_task(TASK, processor, place / "cache")
    batch = collate(data.test, torch.arange(len(data.test)), data.pad_id)
    with torch.no_grad():
        hidden = model(pixel_values=batch.pixel_values).last_hidden_state
    logits = F.linear(hidden.mean(dim=1), head["head.weight"], head["head.bias"])
    said = load_file(run.root / "predictions.safetensors")
    assert torch.equal(said["target"], batch.labels)
    assert (said["prediction"] == logits.argmax(dim=1)).float().mean() > 0.99


def test_the_same_command_again_trains_nothing(place: Path, done: StudyPaths) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.root.glob("runs/*/record.json")}
    outcome = run_study(specs(place), settings(place))
    assert outcome.num_failed == 0
    assert {path: path.stat().st_mtime_ns for path in done.root.glob("runs/*/record.json")} == before
