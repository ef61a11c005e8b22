"""kill -9 at each system call by which records, checkpoints and adapters are written or removed."""

from __future__ import annotations

import re
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from src.records import RunPaths
from src.spec import RunSpec
from tests.experiment.workplace import Workplace, build, results
from tests.faults.child import start_part
from tests.faults.state import check_whole, costs, leftovers
from tests.faults.steps import DieAt

FILES = ("/adapter", "/checkpoints", "record.json", "head.safetensors", "predictions.safetensors")
PARTS = 8  # of all steps, for tests of a minute or so
LOOP = {"max_steps": 4, "eval_every": 2, "checkpoint_every": 2, "dropout": 0.2}


@dataclass(frozen=True)
class Writing:
    """A study of two cells that train together, and what comes out of it."""

    place: Workplace
    specs: list[RunSpec]
    steps: list[str]
    whole: list[RunPaths]

    def run(self, output: Path, step: int | None) -> tuple[int, list[str]]:
        """Exit code, and what was done until then."""
        output.mkdir(exist_ok=True)
        order = DieAt(output / "tiny" / "runs", output / "steps", FILES, step)
        child = start_part(self.specs, self.place.settings(output, pack=2), output / "told", order)
        code = child.wait()
        assert code in {0, -signal.SIGKILL}, child.text
        return code, (output / "steps").read_text().splitlines()


def build_writing(root: Path) -> Writing:
    place = build(root)
    specs = [place.spec("all", 2, **LOOP), place.spec("qv", 1, seed=1, layers="1-1", **LOOP)]
    writing = Writing(place, specs, [], place.runs(specs, root / "whole"))
    code, steps = writing.run(root / "whole", None)
    assert code == 0
    return Writing(place, specs, steps, writing.whole)


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Writing:
    return build_writing(tmp_path_factory.mktemp("writing"))


def plain(step: str) -> str:
    """Without the part of a temporary name that is drawn at random, and without folders."""
    what, _, path = step.rpartition(" ")
    return f"{what} {re.sub(r'[.][0-9a-f]{8}[.]tmp', '.tmp', path).rpartition('/runs/')[2]}"


def test_every_kind_of_step_is_counted(writing: Writing) -> None:
    kinds = Counter(step.rpartition(" ")[0] for step in writing.steps)
    assert {"mkdir", "open", "write half of", "fsync", "replace", "rename", "unlink", "rmdir"} <= set(kinds)
    for name in ("record.json", "adapter_model.safetensors", "adapter_config.json", "state.json", "state.safetensors"):
        assert any(step.startswith("write half of") and name in step for step in writing.steps)
    print(f"{len(writing.steps)} steps: {dict(kinds)}")


def kill_at(writing: Writing, output: Path, step: int) -> None:
    code, done = writing.run(output, step)
    assert code == -signal.SIGKILL
    assert plain(done[-1]) == plain(writing.steps[step])
    check_whole(output)
    assert writing.run(output, None)[0] == 0
    runs = writing.place.runs(writing.specs, output)
    assert results(runs) == results(writing.whole), f"killed at: {done[-1]}"
    assert costs(runs) == costs(writing.whole), f"killed at: {done[-1]}"
    check_whole(output)
    assert leftovers(runs) == []


def chosen(steps: list[str], *kinds: str) -> list[int]:
    """The first step of each kind."""
    return [next(i for i, step in enumerate(steps) if all(word in step for word in kind.split("|"))) for kind in kinds]


def test_killed_while_writing_a_checkpoint_an_adapter_and_a_record(writing: Writing, tmp_path: Path) -> None:
    kinds = (
        "write half of|state.safetensors",
        "write half of|adapter_model",
        "replace|record",
    )
    for step in chosen(writing.steps, *kinds):
        kill_at(writing, tmp_path / str(step), step)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_each_step(writing: Writing, tmp_path: Path, part: int) -> None:
    for step in range(part, len(writing.steps), PARTS):
        kill_at(writing, tmp_path / str(step), step)
