"""Studies with adapters of all kinds, and the command that serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from src.bank import cli
from src.experiment.study import run_study
from src.records import RunPaths, StudyPaths, read_study
from tests.experiment.workplace import STUDY, Workplace, build
from tests.tiny_pictures import save_pictures_model

SHORT: dict[str, Any] = {"max_steps": 4, "eval_every": 4, "lr": 0.1}
KINDS: dict[str, dict[str, Any]] = {
    "qv": {}, "qkvo": {"rslora": True, "b_lr_ratio": 4.0}, "q": {"dora": True}, "k": {"init": "pissa"}, "none": {},
}  # fmt: skip


def classifying_study(root: Path) -> tuple[Workplace, Path]:
    """A study with LoRA in all its kinds, and the head alone; with the output folder."""
    place = build(root)
    return place, train(place, [place.spec(targets, **kind, **SHORT) for targets, kind in KINDS.items()])


def pictures_study(root: Path) -> tuple[Workplace, Path]:
    """One adapter of a model of pictures."""
    place = Workplace(save_pictures_model(root / "model"), Path("digits"), root / "cache")
    task = {"image": "image", "train_size": 32, "validation_size": 20, "test_size": 20}
    return place, train(place, [place.spec("qv", **task, **SHORT)], root / "out")


def train(place: Workplace, specs: list[Any], output: Path | None = None) -> Path:
    output = output or place.data.parent / "out"
    assert run_study(specs, place.settings(output)).num_failed == 0
    return output


def bank(place: Workplace, output: Path, *arguments: str) -> int:
    return cli([f"output_dir={output}", f"cache_dir={place.cache}", "device=cpu", *arguments])


def run_of(output: Path, targets: str) -> tuple[str, RunPaths]:
    paths = StudyPaths.of(output, STUDY)
    (found,) = (r.run_id for r in read_study(paths).records if r.run_spec().lora.targets == targets)
    return found, paths.run(found)
