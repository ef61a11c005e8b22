"""Scores against hand-made sums and against the libraries that the modules wrap."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.metrics import compute_metrics, language_metrics, text_metrics
from src.spec import METRICS, TEXT_KINDS, TEXT_METRICS

ROOT = Path(__file__).resolve().parents[2]
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def test_hand_made_binary_case() -> None:
    # true positives 2, false positives 1, false negatives 1, true negatives 1
    scores = compute_metrics("classification", [1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert scores["macro_f1"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert scores["matthews"] == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))


@given(PAIRS)
def test_classification_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    given_, true = ([pair[i] for pair in pairs] for i in (0, 1))
    scores = compute_metrics("classification", torch.tensor(given_), torch.tensor(true), num_labels=4)
    assert scores["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert scores["f1"] is None
    assert scores["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(true, given_, average="macro", zero_division=0))
    if len(set(true)) > 1:
        assert scores["matthews"] == pytest.approx(sklearn.metrics.matthews_corrcoef(true, given_))
    else:
        assert scores["matthews"] is None


@pytest.mark.parametrize(
    ("predictions", "references", "f1"), [([0, 0], [0, 1], 0.0), ([0, 0], [0, 0], None), ([1, 1], [1, 1], 1.0)]
)
def test_f1_of_constant_predictions(predictions: list[int], references: list[int], f1: float | None) -> None:
    assert compute_metrics("classification", predictions, references, num_labels=2)["f1"] == f1


def test_regression() -> None:
    scores = compute_metrics("regression", torch.tensor([1.0, 2.0, 3.0, 5.0]), [2.0, 4.0, 6.0, 7.0])
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["mse"] == pytest.approx((1 + 4 + 9 + 4) / 4)
    covariance = sum((x - 2.75) * (y - 4.75) for x, y in zip([1, 2, 3, 5], [2, 4, 6, 7], strict=True))
    assert scores["pearson"] == pytest.approx(covariance / math.sqrt(8.75 * 14.75))


@pytest.mark.parametrize(
    ("predictions", "defined"),
    [([3.0, 3.0, 3.0], {"mse"}), ([1.0, math.nan, 2.0], set()), ([1.0, math.inf, 2.0], set())],
)
def test_undefined_values_are_none(predictions: list[float], defined: set[str]) -> None:
    scores = compute_metrics("regression", predictions, [1.0, 2.0, 4.0])
    assert {name for name, value in scores.items() if value is not None} == defined


def test_one_example_has_no_correlation() -> None:
    assert compute_metrics("regression", [1.0], [2.0]) == {"pearson": None, "spearman": None, "mse": 1.0}


def test_language_metrics() -> None:
    scores = language_metrics(loss_sum=6.0, num_tokens=4, num_correct=1)
    assert scores == {"loss": 1.5, "perplexity": pytest.approx(math.exp(1.5)), "token_accuracy": 0.25}
    assert set(language_metrics(0.0, 0, 0).values()) == {None}
    assert language_metrics(1e6, 1, 0) == {"loss": 1e6, "perplexity": None, "token_accuracy": 0.0}
    assert language_metrics(math.nan, 2, 1) == {"loss": None, "perplexity": None, "token_accuracy": 0.5}


def test_every_metric_of_the_spec_is_computed() -> None:
    computed = {
        "classification": {*compute_metrics("classification", [0, 1], [0, 1]), "loss"},
        "regression": {*compute_metrics("regression", [0.0, 1.0], [0.0, 1.0]), "loss"},
        **{kind: set(language_metrics(1.0, 1, 1)) for kind in TEXT_KINDS},
    }
    assert {kind: set(names) for kind, names in METRICS.items()} == computed
    assert set(text_metrics(["a"], [["a"]])) == set(TEXT_METRICS)


@pytest.mark.parametrize(("predictions", "references"), [([], []), ([1], [1, 0])])
def test_nothing_to_score_is_a_mistake(predictions: list[int], references: list[int]) -> None:
    with pytest.raises(ValueError, match="predictions for"):
        compute_metrics("classification", predictions, references)


PROCESS = """
import json
from src.metrics import compute_metrics
for n in range(20):
    classes = compute_metrics("classification", [n % 2, 1], [0, 1])
    print(json.dumps([classes, compute_metrics("regression", [n, 1.0], [0.0, 1.0])]))
"""


def test_two_processes_at_once_leave_nothing_behind(tmp_path: Path) -> None:
    home, work, temporary = (tmp_path / name for name in ("home", "work", "tmp"))
    for folder in (home, work, temporary):
        folder.mkdir()
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(home), "TMPDIR": str(temporary)}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-c", PROCESS]
    running = [
        subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert outputs[0] == outputs[1]
    assert len([json.loads(line) for line in outputs[0][0].splitlines()]) == 20
    assert [sorted(folder.rglob("*")) for folder in (home, work, temporary)] == [[], [], []]
