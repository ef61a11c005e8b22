"""A study whose cells also write: what they leave, what of it is scored, and what an interruption changes."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.errors import InterruptedRunError
from src.experiment.study import run_study
from src.metrics import text_metrics
from src.models.generate import generate
from src.records import RunPaths
from src.spec import TEXT_METRICS, RunSpec, TaskKind
from src.training import evaluate
from tests.experiment.workplace import Workplace, build, record_of
from tests.tiny_files import WORDS, write_csv

# Three prompts of test, of which the first has two references; that prompt and completion repeat is not one more.
TEST = [(0, "w7 w8"), (1, "w9"), (0, "w8 w7"), (2, "w9"), (1, "w9")]
GENERATED = {"generate": True, "beams": 3, "length_penalty": 2.0, "no_repeat_ngram": 2, "max_new_tokens": 6}


def make(root: Path, model_type: str, kind: TaskKind) -> Workplace:
    place = build(root, model_type, kind)
    write_csv(place.data, labels=("w7 w8", "w9", "w8"))
    with (place.data.parent / "test.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows((" ".join(WORDS[10 * row : 10 * row + 4]), completion) for row, completion in TEST)
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return make(tmp_path_factory.mktemp("place"), "gpt2", "causal_lm")


def cells(place: Workplace, **changes: Any) -> list[RunSpec]:
    test = {"test_path": str(place.data.parent / "test.csv"), "test_split": "test", "test_size": None}
    settings = {**test, **GENERATED, **changes}
    return [place.spec("qv", 2, **settings), place.spec("all", 4, lr=5e-2, **settings)]


def lines(run: RunPaths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.generations.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> list[RunPaths]:
    """Two cells that trained together."""
    output = tmp_path_factory.mktemp("done")
    assert run_study(cells(place), place.settings(output)).num_failed == 0
    return place.runs(cells(place), output)


def test_every_prompt_of_test_has_a_line_with_all_its_references(runs: list[RunPaths]) -> None:
    for run in runs:
        assert [set(line) for line in lines(run)] == [{"prompt", "references", "generated"}] * 3
        assert [line["prompt"] for line in lines(run)] == [" ".join(WORDS[10 * row : 10 * row + 4]) for row in range(3)]
        assert [line["references"] for line in lines(run)] == [["w7 w8", "w8 w7"], ["w9"], ["w9"]]
        assert any(line["generated"] for line in lines(run))
        assert all(len(line["generated"].split()) <= 6 for line in lines(run))


def test_test_is_scored_as_text_and_validation_is_not(runs: list[RunPaths]) -> None:
    for run in runs:
        metrics = record_of(run)["metrics"]
        scores = text_metrics([line["generated"] for line in lines(run)], [line["references"] for line in lines(run)])
        assert {name: metrics["test"][name] for name in TEXT_METRICS} == pytest.approx(scores)
        assert {"loss", "perplexity", "token_accuracy"} | set(TEXT_METRICS) == set(metrics["test"])
        assert not set(TEXT_METRICS) & set(metrics["validation"])


def test_what_a_cell_writes_does_not_depend_on_its_company(
    place: Workplace, runs: list[RunPaths], tmp_path: Path
) -> None:
    run_study(cells(place), place.settings(tmp_path, pack=1))
    assert [lines(run) for run in place.runs(cells(place), tmp_path)] == [lines(run) for run in runs]


def test_an_encoder_with_a_decoder_writes_too(tmp_path: Path) -> None:
    place = make(tmp_path, "bart", "seq2seq")
    cell = cells(place)[1]
    run_study([cell], place.settings(tmp_path / "out"))
    (run,) = place.runs([cell], tmp_path / "out")
    assert [line["references"] for line in lines(run)] == [["w7 w8", "w8 w7"], ["w9"], ["w9"]]
    assert set(TEXT_METRICS) < set(record_of(run)["metrics"]["test"])


def test_without_generation_nothing_is_written(place: Workplace, tmp_path: Path) -> None:
    (cell,) = cells(place, generate=False)[:1]
    run_study([cell], place.settings(tmp_path))
    (run,) = place.runs([cell], tmp_path)
    assert not run.generations.exists()
    assert set(record_of(run)["metrics"]["test"]) == {"loss", "perplexity", "token_accuracy"}


def test_a_stop_while_writing_costs_no_training(
    place: Workplace, runs: list[RunPaths], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **settings: Any) -> Iterator[Any]:
        for written in generate(*arguments, **settings):
            signal.raise_signal(signal.SIGINT)
            yield written

    monkeypatch.setattr(evaluate, "generate", interrupted)
    with pytest.raises(InterruptedRunError, match="only the test is left"):
        run_study(cells(place), place.settings(tmp_path))
    stopped = place.runs(cells(place), tmp_path)
    assert [record_of(run)["status"] for run in stopped] == ["interrupted", "interrupted"]
    assert not any(run.generations.exists() for run in stopped)
    monkeypatch.undo()
    trained = [record_of(run)["time"]["tokens"] for run in stopped]
    run_study(cells(place), place.settings(tmp_path))
    assert [record_of(run)["time"]["tokens"] for run in stopped] == trained
    assert [lines(run) for run in stopped] == [lines(run) for run in runs]
