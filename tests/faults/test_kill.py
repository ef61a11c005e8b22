"""kill -9 at any moment of a sweep: the same command ends where an uninterrupted one ends, and trains nothing twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from src.records import RunPaths
from src.spec import HalvingSpec, RunSpec, Settings
from tests.experiment.workplace import STUDY, Workplace, record_of, results
from tests.faults.child import start_study
from tests.faults.state import check_whole, costs, ended, leftovers

SEED = 20261121
HALVING = HalvingSpec(eta=2, scope="all", min_share=0.2)


def cells(place: Workplace, **changes: Any) -> list[RunSpec]:
    """Twenty: five sets of matrices and ranks, two learning rates, two seeds; some stop early."""
    pairs = [("q", 1), ("qv", 2), ("kv", 3), ("o", 3), ("all", 4)]
    loop = {"max_steps": 36, "eval_every": 9, "checkpoint_every": 5, "patience": 3, "accumulation": 2, **changes}
    return [
        place.spec(targets, rank, seed=seed, lr=lr, dropout=0.1, **loop)
        for targets, rank in pairs
        for lr in (1e-2, 3e-2)
        for seed in (0, 1)
    ]


@dataclass
class Killed:
    """A sweep that is started again and again."""

    specs: list[RunSpec]
    settings: Settings
    runs: list[RunPaths]
    done: dict[str, Any] = field(default_factory=dict)

    def attempt(self, delay: float) -> int:
        """Kill it after so many seconds, unless it has ended; its exit code."""
        child = start_study(self.specs, self.settings, Path(self.settings.output_dir) / "told")
        child.process.join(delay)
        if child.process.is_alive():
            os.kill(child.pid, signal.SIGKILL)
        code = child.wait()
        assert code in {0, -signal.SIGKILL}, child.text
        self.check()
        return code

    def check(self) -> None:
        """What is there is whole, and what had ended before has not been touched."""
        check_whole(Path(self.settings.output_dir))
        now = ended(self.runs)
        assert {name: now.get(name) for name in self.done} == self.done
        self.done = now


def sweep(place: Workplace, specs: list[RunSpec], output: Path, **changes: Any) -> Killed:
    output.mkdir(parents=True)
    return Killed(specs, place.settings(output, pack=4, **changes), place.runs(specs, output))


def kill_until_through(killed: Killed, kills: int, draw: random.Random, longest: float) -> int:
    """How many kills landed while cells were left to do; the last attempt is left to its end."""
    landed = 0
    while landed < kills:
        code = killed.attempt(draw.uniform(0.05, longest))
        if len(killed.done) == len(killed.runs):
            break
        landed += code == -signal.SIGKILL
    assert killed.attempt(300.0) == 0
    return landed


def check_against(whole: Killed, killed: Killed) -> None:
    assert results(killed.runs) == results(whole.runs)
    assert costs(killed.runs) == costs(whole.runs)
    assert leftovers(killed.runs) == []
    log = (Path(killed.settings.output_dir) / STUDY / "study.log").read_text()
    told = Counter(line.split(" INFO ")[1].split(":")[0] for line in log.splitlines() if ": completed" in line)
    assert max(told.values()) == 1
    assert set(told) <= {run.root.name for run in killed.runs}


def seconds_of(killed: Killed) -> float:
    started = time.monotonic()
    assert killed.attempt(300.0) == 0
    return time.monotonic() - started


def test_a_sweep_killed_three_times(place: Workplace, tmp_path: Path) -> None:
    specs = cells(place, max_steps=18)[:4]
    whole, landed = sweep(place, specs, tmp_path / "whole"), 0
    seconds = seconds_of(whole)
    # Sooner and sooner, where the machine has become faster since.
    for part in (3, 9, 27):
        killed = sweep(place, specs, tmp_path / f"killed-{part}")
        landed += kill_until_through(killed, 3, random.Random(SEED), seconds / part)
        check_against(whole, killed)
        if landed:
            break
    assert landed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_sweep_of_twenty_killed_at_fifty_points(place: Workplace, tmp_path: Path, seed: int) -> None:
    """Ten of them."""
    kill_often(place, tmp_path, 10, seed)


@pytest.mark.slow
def test_a_sweep_with_halving_killed_at_ten_points(place: Workplace, tmp_path: Path) -> None:
    kill_often(place, tmp_path, 10, 5, HALVING)


def kill_often(place: Workplace, tmp_path: Path, kills: int, seed: int, halving: HalvingSpec | None = None) -> None:
    """Through, and from the beginning again, until so many kills have landed."""
    specs, draw, landed, turn = cells(place), random.Random(SEED + seed), 0, 0
    halving = halving or HalvingSpec()
    whole = sweep(place, specs, tmp_path / "whole", halving=halving)
    seconds = seconds_of(whole)
    while landed < kills:
        killed = sweep(place, specs, tmp_path / f"killed-{turn}", halving=halving)
        landed += kill_until_through(killed, kills - landed, draw, seconds / 3)
        check_against(whole, killed)
        turn += 1
    print(f"{landed} kills in {turn} sweeps of {seconds:.1f} s each")


@pytest.mark.slow
def test_control_a_cell_trained_again_is_seen(place: Workplace, tmp_path: Path) -> None:
    """The comparison notices both a result that differs and a record that was written again."""
    specs = cells(place)[:2]
    whole, other = (sweep(place, specs, tmp_path / name) for name in ("whole", "other"))
    for each in (whole, other):
        assert each.attempt(300.0) == 0
    assert record_of(other.runs[0])["status"] == "completed"
    other.runs[0].record.unlink()
    with pytest.raises(AssertionError):
        other.attempt(300.0)
