"""What is counted of a start and of a further cell is there to be counted."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from src.benchmarks.first_step import STAGES
from src.benchmarks.fixed_cost import PARTS, Studies, _profile, measure
from src.benchmarks.processes import start
from src.benchmarks.start import FIRST, SECOND, _expect_equal, _tokenise, natural
from src.errors import HarnessError
from src.models.preprocessing import load_data
from src.spec import run_id
from tests.benchmarks.sweeps import make_request

SPLITS = {"train_size": 30, "validation_size": 14, "test_size": 14}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("start")


@pytest.fixture
def studies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Studies:
    monkeypatch.setattr("src.benchmarks.fixed_cost.SPLITS", SPLITS)
    request = make_request(folder)
    return Studies(request.spec, request.settings, folder / "out")


def test_every_part_of_a_cell_takes_time(studies: Studies) -> None:
    parts = _profile(studies, studies.shapes(2))
    assert set(parts) == {label for label, _, _ in PARTS}
    assert min(parts.values()) > 0  # a function that was renamed would take none


def test_a_further_cell_costs_what_is_left_without_its_training(studies: Studies) -> None:
    cost = measure(studies, studies.rates(2), rounds=1)
    assert len(cost.wall) == len(cost.trained) == 1
    assert cost.fixed == tuple(wall - own for wall, own in zip(cost.wall, cost.trained, strict=True))
    assert cost.parts.keys() == {label for label, _, _ in PARTS}


def test_cells_of_both_kinds_are_different_runs(studies: Studies) -> None:
    for specs in (studies.rates(32), studies.shapes(32)):
        assert len({run_id(spec) for spec in specs}) == 32
        assert all(spec.trainer.max_steps == 1 for spec in specs)
    with pytest.raises(HarnessError, match="120 cells"):
        studies.shapes(121)


def test_the_second_start_has_the_same_examples(folder: Path, tmp_path: Path) -> None:
    request = make_request(folder)
    task = natural(request.spec.model, request.spec.task, folder / "cache")
    assert (task.train_size, task.test_size, task.max_length) == (None, None, 66)
    check, times = _tokenise(request.spec.model, task, folder / "cache", tmp_path, rounds=2)
    assert "equal" in check
    assert {name: len(seconds) for name, seconds in times.items()} == {FIRST: 2, SECOND: 2}


def test_other_examples_are_found(folder: Path, tmp_path: Path) -> None:
    request = make_request(folder)
    data = load_data(request.spec.model, request.spec.task, tmp_path)
    _expect_equal(data, dataclasses.replace(data))
    other = dataclasses.replace(data.train, labels=data.train.labels.flip(0))  # type: ignore[union-attr, arg-type]
    with pytest.raises(HarnessError, match="not those of the first"):
        _expect_equal(data, dataclasses.replace(data, train=other))


def test_a_start_passes_all_stages_in_order_and_ends_with_its_first_step(folder: Path) -> None:
    request, result = make_request(folder), folder / "stages.json"
    task = request.spec.task
    given = [
        f"model.path={request.spec.model.path}", "task=own", f"task.path={task.path}", "task.text=text",
        "task.label=label", "task.test_split=null", "task.max_length=16", "task.validation_size=14", "lora.rank=2",
        f"cache_dir={folder / 'cache'}", f"output_dir={folder / 'first'}", "tracking=none", "device=cpu",
    ]  # fmt: skip
    start([["-m", "src.benchmarks.first_step", repr(time.time()), str(result), *given]])
    ended = json.loads(result.read_text())
    seconds = [ended[stage] for stage in STAGES]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert not list((folder / "first").rglob("record.json"))
