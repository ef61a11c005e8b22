"""Successive halving as it runs: who is ended, and that nobody else notices."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from src.comparison import build_tables, choose
from src.config import to_settings
from src.config.compose import compose_config
from src.errors import ConfigError, InterruptedRunError
from src.experiment.study import run_study
from src.records import StudyPaths, read_study
from src.spec import HalvingSpec, RunSpec
from tests.experiment.test_resume import signalled
from tests.experiment.workplace import STUDY, Workplace, build, record_of, results, snapshot

HALVES = HalvingSpec(eta=2)
RATES = (1e-4, 3e-4, 1e-3, 1e-2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


# Whole studies. Validations after 3, 6, 9 and 12 steps; rungs after 3 (a quarter) and 6 (a half).


def cells(place: Workplace, **changes: Any) -> list[RunSpec]:
    """Four learning rates for each of two configurations, and the head alone."""
    shapes = [("qv", 1), ("all", 4)]
    adapted = [place.spec(*shape, lr=rate, eval_every=3, **changes) for shape in shapes for rate in RATES]
    return [*adapted, place.spec("none", eval_every=3, **changes)]


@pytest.fixture(scope="module")
def whole(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What comes out without halving, cell by cell."""
    output = tmp_path_factory.mktemp("whole")
    run_study(cells(place, metric="loss"), place.settings(output, pack=1))
    return [(record_of(run), result) for run, result in both(place, output)]


def both(place: Workplace, output: Path) -> list[Any]:
    runs = place.runs(cells(place, metric="loss"), output)
    return list(zip(runs, results(runs), strict=True))


def expected_to_stay(whole: list[Any]) -> set[int]:
    """By hand: of four two stay after 3 steps, of these one after 6; index 8 is the head alone."""
    stays = {8}
    for group in (range(4), range(4, 8)):
        history = {i: [point["validation"]["loss"] for point in whole[i][0]["metrics"]["history"]] for i in group}
        two = sorted(group, key=lambda i: history[i][0])[:2]
        stays.add(min(two, key=lambda i: min(history[i][:2])))
    return stays


def check_ends(place: Workplace, output: Path, whole: list[Any]) -> None:
    """Survivors are byte for byte as without halving; the others' histories are prefixes, with the reason."""
    stays = expected_to_stay(whole)
    for index, (run, result) in enumerate(both(place, output)):
        record, complete = record_of(run), whole[index][0]
        if index in stays:
            assert result == whole[index][1]
            assert record["eliminated"] is None
            continue
        assert record["status"] == "eliminated"
        step, rung = record["eliminated"]["step"], record["eliminated"]["rung"]
        assert (step, rung) in {(3, 1), (6, 2)}
        assert record["metrics"]["history"] == complete["metrics"]["history"][:rung]
        assert record["metrics"]["test"] is None and record["metrics"]["validation"] is None
        assert record["eliminated"]["score"] == min(p["validation"]["loss"] for p in record["metrics"]["history"])
        assert (record["eliminated"]["of"], record["eliminated"]["kept"]) == {1: (4, 2), 2: (2, 1)}[rung]
        assert {path.name for path in run.root.iterdir()} == {"metrics.jsonl", "record.json"}


def halve(place: Workplace, output: Path, **changes: Any) -> Any:
    return run_study(cells(place, metric="loss"), place.settings(output, **{"halving": HALVES, "pack": 1, **changes}))


def test_survivors_end_where_they_would_have_ended(place: Workplace, whole: list[Any], tmp_path: Path) -> None:
    outcome = halve(place, tmp_path)
    assert outcome.num_failed == 0
    check_ends(place, tmp_path, whole)
    records = [record_of(run) for run, _ in both(place, tmp_path)]
    assert {i for i, record in enumerate(records) if record["status"] == "completed"} == expected_to_stay(whole)
    scores = [record["metrics"]["validation"] or record["eliminated"] for record in records]
    assert outcome.scores == [found.get("loss", found.get("score")) for found in scores]
    log = (tmp_path / STUDY / "study.log").read_text()
    assert "Rung 1 at step 3: 4 cells ended, 5 go on" in log
    assert "Rung 2 at step 6: 2 cells ended, 3 go on" in log

    before = snapshot(tmp_path / STUDY / "runs")
    assert halve(place, tmp_path).num_failed == 0
    assert snapshot(tmp_path / STUDY / "runs") == before, "ended cells are done"


def test_the_report_lists_who_was_ended_and_counts_its_learning_rate(place: Workplace, tmp_path: Path) -> None:
    halve(place, tmp_path)
    study = build_tables(read_study(StudyPaths.of(tmp_path, STUDY)))
    (table,) = study.tables
    assert len(table.ranked) == 3
    causes = {problem.cause for problem in table.problems}
    assert "ended at step 3 by successive halving: place 4 of 4, 2 went on" in causes
    assert all(choice.tried == frozenset(RATES) for choice in choose(table))


def test_in_packs_of_any_company_survivors_agree(place: Workplace, tmp_path: Path) -> None:
    """Packs are regrouped at every rung; float64 shows that only rounding depends on the company."""
    specs = cells(place, metric="loss", dtype="float64", dropout=0.1)
    run_study(specs, place.settings(tmp_path / "whole", pack=8))
    run_study(specs, place.settings(tmp_path / "halved", pack=3, halving=HALVES))
    plain, halved = (place.runs(specs, tmp_path / name) for name in ("whole", "halved"))
    ended = [record_of(run)["status"] == "completed" for run in halved]
    assert sum(ended) == 3
    for mine, other, completed in zip(halved, plain, ended, strict=True):
        if completed:
            metrics = [record_of(run)["metrics"]["test"]["loss"] for run in (mine, other)]
            assert metrics[0] == pytest.approx(metrics[1], rel=1e-10)
            if mine.adapter_weights.exists():
                a, b = load_file(mine.adapter_weights), load_file(other.adapter_weights)
                assert all(((a[name] - b[name]).abs().max() < 1e-10) for name in a)
    packed = [record_of(run)["time"]["pack_size"] for run, completed in zip(halved, ended, strict=True) if completed]
    assert packed == [3, 3, 3], "those who are left form one pack"


@pytest.mark.parametrize("after", [2, 3, 30, 50])
def test_after_a_signal_the_same_again_comes_to_the_same(
    place: Workplace, whole: list[Any], tmp_path: Path, after: int
) -> None:
    """In the first segment, at a rung, between two, and in the last segment."""
    with signalled(signal.SIGINT, after), pytest.raises(InterruptedRunError):
        halve(place, tmp_path)
    assert halve(place, tmp_path).num_failed == 0
    check_ends(place, tmp_path, whole)


def test_a_kill_between_checkpoint_and_record_costs_nothing(
    place: Workplace, whole: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rung's checkpoints are there and some of its records are not."""
    monkeypatch.setattr("src.experiment.race.judge", lambda *_: os.kill(os.getpid(), signal.SIGINT) or {})
    with pytest.raises(InterruptedRunError):
        halve(place, tmp_path)
    monkeypatch.undo()
    for run, _ in both(place, tmp_path)[::2]:
        run.record.unlink()
    assert halve(place, tmp_path).num_failed == 0
    check_ends(place, tmp_path, whole)


def test_a_larger_grid_later_calls_nobody_back(place: Workplace, tmp_path: Path) -> None:
    few = [place.spec(lr=rate, eval_every=3, metric="loss") for rate in RATES[:2]]
    settings = place.settings(tmp_path, halving=HALVES, pack=1)
    run_study(few, settings)
    before = [record_of(run) for run in place.runs(few, tmp_path)]
    assert sorted(record["status"] for record in before) == ["completed", "eliminated"]
    more = [*few, place.spec(lr=1e-2, eval_every=3, metric="loss")]
    assert run_study(more, settings).num_failed == 0
    runs = place.runs(more, tmp_path)
    assert [record_of(run) for run in runs[:2]] == before
    assert record_of(runs[2])["status"] == "completed", "the highest rate learns fastest here"


def test_without_halving_what_was_ended_runs_to_its_end(place: Workplace, whole: list[Any], tmp_path: Path) -> None:
    halve(place, tmp_path)
    run_study(cells(place, metric="loss"), place.settings(tmp_path, pack=1))
    assert [result for _, result in both(place, tmp_path)] == [result for _, result in whole]


def test_a_sweep_that_cannot_be_halved_says_so_before_it_starts(place: Workplace, tmp_path: Path) -> None:
    specs = [place.spec(lr=rate, eval_every=12) for rate in RATES]
    with pytest.raises(ConfigError, match=r"halving.eta is 2; allowed: null, or .* validated every 12 steps"):
        run_study(specs, place.settings(tmp_path, halving=HALVES))
    assert list(tmp_path.iterdir()) == []
    alone = place.settings(tmp_path, halving=HALVES)
    assert run_study(specs[:1], alone).num_failed == 0, "nobody to compete with: nothing to end"


def test_it_is_a_group_of_the_config() -> None:
    chosen = to_settings(compose_config(["halving.eta=3", "halving.scope=all", "halving.min_share=0.1"]))
    assert chosen.halving == HalvingSpec(3, "all", 0.1)
    assert to_settings(compose_config()).halving == HalvingSpec()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("halving.eta=1", "halving.eta is 1; allowed: 2 or more, or null for no halving."),
        ("halving.scope=rank", "halving.scope is 'rank'; allowed: lr or all."),
        ("halving.min_share=0", "halving.min_share is 0.0; allowed: a number in (0, 1)."),
    ],
)
def test_wrong_options_say_what_is_allowed(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        to_settings(compose_config([override]))
    assert str(caught.value) == said
