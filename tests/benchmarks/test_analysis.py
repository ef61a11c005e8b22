"""The spectral benchmark on matrices small enough for a test."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from src.bench import read_arguments
from src.benchmarks.analysis import cases, run, scaled
from src.benchmarks.request import Request
from src.benchmarks.spectral_sides import Dense, Subjects, Thin, check, draw
from src.errors import HarnessError
from src.experiment.study import run_study
from tests.experiment.workplace import STUDY, build

CPU = torch.device("cpu")
SMALL = ("d=24", "ranks=1,3", "adapters=6", "dense=4", "rounds=5", "device=cpu")


def asked(*arguments: str) -> Request:
    return read_arguments(["analysis", *SMALL, *arguments])[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_thin_and_dense_agree_on_everything(dtype: torch.dtype) -> None:
    subjects = draw(40, (1, 4, 16, 4, 1, 16), 6, dtype, CPU)
    thin, dense = Thin(subjects), Dense(subjects)
    assert "phi" in check(thin, dense)
    assert len(thin.phi()) == len(dense.phi()) == subjects.pairs == subjects.dense_pairs == 15
    assert thin.product().shape == (40, 42)


def test_a_difference_ends_the_benchmark() -> None:
    subjects = draw(40, (2, 4), 2, torch.float64, CPU)
    first = subjects.adapters[0]
    other = Subjects(subjects.weight, (dataclasses.replace(first, scale=1.01 * first.scale), subjects.adapters[1]), 2)
    with pytest.raises(HarnessError, match="differ"):
        check(Thin(subjects), Dense(other))


def test_each_mix_holds_all_ranks_evenly_and_then_each_rank_stands_alone() -> None:
    found = list(cases(asked(), CPU))
    ranks = [[len(adapter.a) for adapter in subjects.adapters] for _, subjects in found]
    assert ranks == [[1, 3, 1, 3, 1, 3], [1] * 6, [3] * 6]
    assert found[0][0] == "d = 24, r = 1, 3, float64"


def test_what_was_timed_on_a_few_is_multiplied_to_all() -> None:
    subjects = draw(16, (2,) * 6, 3, torch.float64, CPU)
    times = {f"{side} {stage}": (1.0,) for side in ("thin", "dense") for stage in ("spectra", "phi", "amplification")}
    thin, dense = scaled({**times, "thin W times all directions alone": (0.5,)}, subjects)
    assert dense["spectra"] == dense["amplification"] == [6 / 3]
    assert dense["phi"] == [15 / 3]
    assert (thin["in all"], dense["in all"]) == ([3.0], [9.0])


def test_tables_say_how_many_were_timed_and_goals_follow() -> None:
    found = run(asked())
    assert [len(table.rows) for table in found.tables] == [5, 5, 5]
    assert "dense timed on 4 of them (6 of 15 pairs)" in found.tables[0].title
    assert [goal.ratio is None for goal in found.goals] == [False, False, False, True]
    assert len(found.checks) == 3
    assert "all of them" in run(asked("dense=6", "ranks=2")).tables[0].title


def test_a_studys_analysis_stands_beside_its_training_and_a_study_that_is_not_there_is_told(tmp_path: Path) -> None:
    place = build(tmp_path, "bert", "classification")
    output = tmp_path / "outputs"
    study = run_study([place.spec(rank=rank, max_steps=2) for rank in (1, 2)], place.settings(output))
    assert study.num_failed == 0
    request = asked("ranks=2", f"output_dir={output}", f"cache_dir={place.cache}", f"study={STUDY}")
    goal = run(request).goals[-1]
    assert goal.ratio is not None and goal.ratio > 0.0
    assert "2 runs" in goal.beside
    with pytest.raises(HarnessError, match="No study"):
        run(asked("ranks=2", f"output_dir={output}", "study=absent"))
