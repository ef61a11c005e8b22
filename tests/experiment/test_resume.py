"""An interrupted study, continued by the same command, ends byte for byte where an uninterrupted one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save

from src.config import to_spec
from src.config.compose import compose_config
from src.errors import InterruptedRunError
from src.experiment.study import run_study
from src.records import RunPaths, StudyPaths
from src.spec import RunSpec
from tests.experiment.workplace import STUDY, Workplace, build, record_of, results
from tests.faults.signalled import signalled
from tests.tiny_files import write_csv

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12  # of every cell; validations after 6 and 12, checkpoints after 4 and 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def cells(place: Workplace) -> list[RunSpec]:
    """Mixed ranks, dropouts and seeds; one without adapters, one that stops early."""
    return [
        place.spec("qv", 1, dropout=0.2),
        place.spec("all", 4, dropout=0.1, seed=1),
        place.spec("none"),
        place.spec("o", 3, lr=3e-2),
    ]


@pytest.fixture(scope="module")
def whole(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What comes out without an interruption, in packs of two."""
    output = tmp_path_factory.mktemp("whole")
    run_study(cells(place), place.settings(output, pack=2))
    return results(place.runs(cells(place), output))


def interrupt(place: Workplace, output: Path, after: int, number: int = signal.SIGINT) -> list[RunPaths]:
    with signalled(number, after), pytest.raises(InterruptedRunError) as caught:
        run_study(cells(place), place.settings(output, pack=2))
    assert caught.value.exit_code == 130
    assert "run the same command again" in str(caught.value)
    return place.runs(cells(place), output)


def statuses(runs: list[RunPaths]) -> list[str | None]:
    return [record_of(run)["status"] if run.record.exists() else None for run in runs]


@pytest.mark.parametrize(
    ("after", "number"),
    [(1, signal.SIGINT), (6, signal.SIGTERM), (STEPS + 1, signal.SIGINT), (STEPS + 7, signal.SIGTERM)],
)
def test_after_a_signal_the_same_again_ends_where_it_would_have(
    place: Workplace, whole: list[Any], tmp_path: Path, after: int, number: int
) -> None:
    handlers = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    runs = interrupt(place, tmp_path, after, number)
    assert handlers == [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    assert statuses(runs).count("interrupted") == 2
    assert statuses(runs).count("completed") == (2 if after >= STEPS else 0)
    stopped = [run for run in runs if run.record.exists() and record_of(run)["status"] == "interrupted"]
    assert all(record_of(run)["metrics"]["test"] is None for run in stopped)
    assert [len(list(run.checkpoints.iterdir())) for run in stopped] == [1, 1]
    assert "interrupted" in (tmp_path / STUDY / "report" / "table.md").read_text()
    assert run_study(cells(place), place.settings(tmp_path, pack=2)).num_failed == 0
    assert results(runs) == whole
    assert not any(run.checkpoints.exists() for run in runs)


def test_interrupted_again_and_again(place: Workplace, whole: list[Any], tmp_path: Path) -> None:
    for _ in range(4):
        runs = interrupt(place, tmp_path, 5)
    assert run_study(cells(place), place.settings(tmp_path, pack=2)).num_failed == 0
    assert results(runs) == whole


def test_what_was_together_stays_together_whatever_is_asked_for_next(
    place: Workplace, whole: list[Any], tmp_path: Path
) -> None:
    """Another pack size, another order and more cells: the interrupted packs continue as they were."""
    runs = interrupt(place, tmp_path, 5)
    first = [record_of(run)["run_id"] for run in runs if run.record.exists()]
    more = [place.spec("u", 2), *reversed(cells(place))]
    assert run_study(more, place.settings(tmp_path, pack=8)).num_failed == 0
    again = dict(zip([run.root.name for run in runs], zip(results(runs), whole, strict=True), strict=True))
    for run_id in first:
        assert again[run_id][0] == again[run_id][1]
        assert record_of(StudyPaths.of(tmp_path, STUDY).run(run_id))["time"]["pack_size"] == 2


def test_control_a_changed_checkpoint_ends_elsewhere(place: Workplace, whole: list[Any], tmp_path: Path) -> None:
    """The rest really continues from the checkpoint: what is changed in it shows at the end, in that cell only."""
    runs = interrupt(place, tmp_path, 9)
    changed = next(i for i, run in enumerate(runs) if run.checkpoints.exists())
    (file,) = runs[changed].checkpoints.glob("step-00000009/state.safetensors")
    state = load_file(file)
    state["param/head.bias"][0] += 0.1  # of one class: the same for all would change no score
    file.write_bytes(save(state))
    run_study(cells(place), place.settings(tmp_path, pack=2))
    assert "Continuing 2 cells from step 9" in (tmp_path / STUDY / "study.log").read_text()
    assert [mine == other for mine, other in zip(results(runs), whole, strict=True)] == [
        index != changed for index in range(4)
    ]


def test_a_checkpoint_of_other_data_is_not_continued(place: Workplace, tmp_path: Path) -> None:
    mine = Workplace(place.model, write_csv(tmp_path / "data.csv"), place.cache)
    runs = interrupt(mine, tmp_path / "out", 5)
    stopped = [run for run in runs if run.checkpoints.exists()]
    write_csv(mine.data, seed=1)
    assert run_study(cells(mine), mine.settings(tmp_path / "out", pack=2)).num_failed == len(stopped) == 2
    for run in stopped:
        assert (
            "would give another result. Continue as it was begun, or run with rerun=true"
            in (record_of(run)["error"]["message"])
        )
    assert run_study(cells(mine), mine.settings(tmp_path / "out", rerun=True)).num_failed == 0


LONG = 150


def command(place: Workplace, output: Path) -> list[str]:
    return [
        f"model.path={place.model}", f"task.path={place.data}", "task.test_split=null", "task.max_length=16",
        "task.train_size=null", "task.validation_size=12", "task.test_size=12", "lora.dropout=0.1", "tracking=none",
        f"trainer.max_steps={LONG}", "trainer.eval_every=50", "trainer.checkpoint_every=10", "trainer.dtype=float32",
        "study=tiny", f"output_dir={output}", f"cache_dir={place.cache}", "device=cpu", "pack=8",
    ]  # fmt: skip


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "src.train", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def steps_saved(output: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in output.glob("tiny/runs/*/checkpoints/step-*")]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def test_the_command_survives_ctrl_c_and_kill(place: Workplace, tmp_path: Path) -> None:
    """The real command three times: stopped by SIGINT, killed without a word, and left to its end."""
    output, axes = tmp_path / "out", ["lora.rank=1,3", "lora.targets=qv,all"]
    sweep = ["-m", *axes, *command(place, output)]

    process = start(*sweep)
    wait_for(lambda: bool(steps_saved(output)), process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "Stopped as asked; run the same command again to continue from the checkpoint."
    assert "Traceback" not in told
    stopped_at = max(steps_saved(output))
    assert len(steps_saved(output)) == 4

    process = start(*sweep)
    wait_for(lambda: max(steps_saved(output)) > stopped_at, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    process = start(*sweep)
    shown, told = process.communicate()
    assert process.returncode == 0, told
    assert "Continuing 4 cells from step " in told
    assert "Best by validation accuracy" in shown

    pairs = [(rank, targets) for rank in (1, 3) for targets in ("qv", "all")]
    overrides = [[f"lora.rank={rank}", f"lora.targets={targets}", *command(place, output)] for rank, targets in pairs]
    specs = [to_spec(compose_config(values)) for values in overrides]
    run_study(specs, place.settings(tmp_path / "whole"))
    mine, uninterrupted = (place.runs(specs, folder) for folder in (output, tmp_path / "whole"))
    assert results(mine) == results(uninterrupted)
    assert [record_of(run)["time"]["tokens"] for run in mine] == [
        record_of(run)["time"]["tokens"] for run in uninterrupted
    ]
