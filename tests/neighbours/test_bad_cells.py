"""Bad cells in a sweep: those fail, each with its cause on disk; the others are as if there were none."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.experiment.workplace import Workplace, build
from tests.neighbours.sweep import STUDY, arguments, records, start, tensors

BAD = {2: "exception", 5: "exit", 9: "memory", 12: "kill", 17: "nan"}
CAUSES = {2: "RuntimeError", 5: "SystemExit", 9: "DoesNotFitError", 12: "KilledError", 17: "DivergedError"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def run(place: Workplace, output: Path, seeds: int, faults: dict[int, str], *more: str) -> tuple[int, str]:
    process = start(faults, arguments(place, output, seeds, *more))
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def test_a_cell_that_kills_its_process_takes_no_other_with_it(place: Workplace, tmp_path: Path) -> None:
    code, said = run(place, tmp_path, 3, {1: "kill"}, "pack=3")
    assert code == 1, said
    found = records(tmp_path)
    assert {seed: record["status"] for seed, record in found.items()} == {0: "completed", 1: "failed", 2: "completed"}
    assert "The process was killed by SIGKILL while it trained this cell alone" in found[1]["error"]["message"]
    assert "killed by SIGKILL while it trained 3 cells; they go on from their checkpoints, one by one" in said
    assert "while it trained this cell; it is recorded as failed" in said
    assert "1 of 3 cells of the study seeds did not complete" in said


@pytest.mark.slow
@pytest.mark.parametrize("pack", [1, 8])
def test_of_20_cells_5_bad_ones_fail_and_15_finish(place: Workplace, tmp_path: Path, pack: int) -> None:
    code, said = run(place, tmp_path, 20, BAD, f"pack={pack}")
    assert code == 1, said
    found = records(tmp_path)
    assert len(found) == 20
    assert {seed: record["error"]["type"] for seed, record in found.items() if record["error"]} == CAUSES
    assert all(record["status"] == "completed" for seed, record in found.items() if seed not in BAD)
    assert "5 of 20 cells of the study seeds did not complete" in said
    log = (tmp_path / STUDY / "study.log").read_text()
    ends = Counter(re.findall(r"-s(\d+)-\S+ failed:", log))
    assert ends == dict.fromkeys(map(str, set(BAD) - {17}), 1), "nothing is tried again when another process goes on"

    again, said = run(place, tmp_path, 20, {}, f"pack={pack}")
    assert again == 1, "what diverged would diverge again"
    assert {seed for seed, record in records(tmp_path).items() if record["status"] != "completed"} == {17}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_lane_that_diverges_leaves_the_others_as_they_were_to_the_last_bit(
    place: Workplace, tmp_path: Path, dtype: str
) -> None:
    results = {}
    for name, faults in (("calm", {}), ("nan", {1: "nan"})):
        output = tmp_path / name
        code, said = run(place, output, 4, faults, "pack=4", f"trainer.dtype={dtype}")
        assert code == len(faults), said
        found = records(output)
        metrics = {seed: record["metrics"] for seed, record in found.items() if seed != 1}
        files = {path: content for path, content in tensors(output).items() if found[1]["run_id"] not in path}
        results[name] = metrics, files
        assert len(metrics) == 3
        assert len(files) == 9
        assert found[1]["status"] == ("diverged" if faults else "completed")
    assert results["calm"] == results["nan"]
