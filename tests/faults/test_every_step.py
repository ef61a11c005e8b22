"""Stopped after any step of two epochs, with accumulation: records and adapters come out to the same bit."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from src.errors import InterruptedRunError
from src.experiment.study import run_part
from src.records import RunPaths
from src.spec import MethodSpec, RunSpec, normalise
from tests.experiment.workplace import Workplace, build, record_of, results
from tests.faults.signalled import signalled
from tests.faults.state import costs

STEPS = 18  # two epochs of 66 documents in batches of 8, each in three micro-batches; an epoch's last batch has 2
LOOP = {"max_steps": None, "epochs": 2, "eval_every": 5, "checkpoint_every": 4, "accumulation": 3}
METHODS = {"full": None, "bitfit": None, "adapter_h": 2, "adapter_l": 2, "prefix": 2, "random_subspace": 20}


def classification(place: Workplace) -> list[RunSpec]:
    """All that draws at random or keeps state: dropout, PiSSA, DoRA, LoRA+, states kept below an upper layer."""
    return [
        place.spec("qv", 1, dropout=0.2, **LOOP),
        place.spec("all", 4, dropout=0.1, seed=1, dora=True, **LOOP),
        place.spec("o", 2, init="pissa", b_lr_ratio=4.0, lr=3e-2, **LOOP),
        place.spec("none", **LOOP),
    ]


def upper_layer(place: Workplace) -> list[RunSpec]:
    """The layer below is not trained, so that what leaves it is kept by example."""
    return [place.spec("qv", 2, layers="1-1", dropout=0.2, seed=seed, **LOOP) for seed in (0, 1)]


def text(place: Workplace) -> list[RunSpec]:
    return [place.spec("qv", 2, dropout=0.2, **LOOP), place.spec("all", 3, seed=1, **LOOP)]


def other_methods(place: Workplace) -> list[RunSpec]:
    plain = place.spec("qv", 2, dropout=0.2, **LOOP)
    return [
        normalise(dataclasses.replace(plain, method=MethodSpec(name, size)))  # type: ignore[arg-type]
        for name, size in METHODS.items()
    ]


KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "classification": ({}, classification),
    "upper_layer": ({}, upper_layer),
    "causal_lm": ({"model_type": "gpt2", "kind": "causal_lm"}, text),
    "seq2seq": ({"model_type": "t5", "kind": "seq2seq"}, text),
    "other_methods": ({}, other_methods),
}


class Case:
    """A study, and what comes out of it without an interruption."""

    def __init__(self, name: str, root: Path) -> None:
        options, cells = KINDS[name]
        self.place = build(root, **options)
        self.specs: list[RunSpec] = cells(self.place)
        run_part(self.specs, self.place.settings(root / "whole"))
        self.whole = self.place.runs(self.specs, root / "whole")

    def stop(self, output: Path, after: int) -> list[RunPaths]:
        """Interrupt the study after so many steps."""
        with signalled(signal.SIGTERM, after), pytest.raises(InterruptedRunError):
            run_part(self.specs, self.place.settings(output))
        runs = self.place.runs(self.specs, output)
        assert any(record_of(run)["status"] == "interrupted" for run in runs if run.record.exists())
        return runs

    def go_on(self, output: Path) -> None:
        assert run_part(self.specs, self.place.settings(output)).num_failed == 0


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {}


def case_of(name: str, cases: dict[str, Case], folders: pytest.TempPathFactory) -> Case:
    return cases.setdefault(name, cases.get(name) or Case(name, folders.mktemp(name)))


def check_step(case: Case, output: Path, after: int) -> None:
    runs = case.stop(output, after)
    case.go_on(output)
    assert results(runs) == results(case.whole)
    assert costs(runs) == costs(case.whole)


def test_in_the_second_epoch(cases: dict[str, Case], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_step(case_of("classification", cases, tmp_path_factory), tmp_path, 13)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classification", "upper_layer", "causal_lm", "seq2seq"])
@pytest.mark.parametrize("after", range(1, STEPS))
def test_at_every_step(
    name: str, after: int, cases: dict[str, Case], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_step(case_of(name, cases, tmp_path_factory), tmp_path, after)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(METHODS)))
@pytest.mark.parametrize("within", [1, 9, 14])
def test_methods_that_train_alone(
    number: int, within: int, cases: dict[str, Case], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_step(case_of("other_methods", cases, tmp_path_factory), tmp_path, number * STEPS + within)


def scramble(runs: Sequence[RunPaths]) -> None:
    """Another state of the generator that draws dropout masks, in every checkpoint."""
    for run in runs:
        for file in run.checkpoints.glob("step-*/state.safetensors"):
            state = load_file(file)
            assert not torch.equal(state["dropout_generator"], torch.Generator().manual_seed(99).get_state())
            state["dropout_generator"] = torch.Generator().manual_seed(99).get_state()
            file.write_bytes(save(state))


def test_control_scrambled_generators_end_elsewhere_where_there_is_dropout(
    cases: dict[str, Case], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    case = case_of("classification", cases, tmp_path_factory)
    runs = case.stop(tmp_path, 9)
    scramble(runs)
    case.go_on(tmp_path)
    dropout = [spec.lora.dropout > 0 for spec in case.specs]
    assert dropout == [True, True, False, False]
    differs = [mine != other for mine, other in zip(results(runs), results(case.whole), strict=True)]
    assert differs == dropout
