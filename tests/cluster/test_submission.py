"""What launcher, tasks and src.status tell each other by files."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from src.cluster.alive import SILENT_S, beating, read_life
from src.cluster.submission import (
    Payload,
    TaskFiles,
    new_folder,
    read_payload,
    read_submissions,
    write_payload,
    write_submission,
)
from src.config import to_settings, to_spec
from src.config.compose import compose_config
from src.errors import HarnessError
from src.records import StudyPaths
from src.spec import run_id

OVERRIDES = (
    "lora.ranks={q:4,v:16}",
    "model.projections={q:'encoder.{i}.query'}",
    "optim.lr=0.1",
    "lora.alpha=16",
    "pack=3",
    "halving.eta=2",
    "tracking.entity=us",
    "slurm.setup=['module load cuda','export A=\"b c\"']",
    "slurm.extra={constraint:a100,exclusive:true,nice:100}",
    "slurm.memory=1.5",
)


@pytest.mark.parametrize("overrides", [(), OVERRIDES])
def test_a_payload_comes_back_exactly(overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = compose_config(list(overrides))
    payload = Payload((to_spec(config),), to_settings(config), 1763700000.25)
    files = TaskFiles(tmp_path / "task-0000.json")
    write_payload(payload, files)
    again = read_payload(files)
    assert again == payload
    assert run_id(again.specs[0]) == run_id(payload.specs[0])
    assert hash(again.settings) == hash(payload.settings)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"specs": [], "settings": {}}', '{"specs": [{}]}'])
def test_a_damaged_payload_is_one_sentence(content: str, tmp_path: Path) -> None:
    files = TaskFiles(tmp_path / "task-0000.json")
    files.payload.write_text(content)
    with pytest.raises(HarnessError, match=r"task-0000\.json cannot be read"):
        read_payload(files)


@pytest.mark.parametrize("time", [None, "yesterday", []])
def test_a_payload_without_its_time_is_one_sentence(time: object, tmp_path: Path) -> None:
    config, files = compose_config([]), TaskFiles(tmp_path / "task-0000.json")
    write_payload(Payload((to_spec(config),), to_settings(config), 0.0), files)
    files.payload.write_text(json.dumps({**json.loads(files.payload.read_text()), "submitted": time}))
    with pytest.raises(HarnessError, match=r"task-0000\.json cannot be read"):
        read_payload(files)


def test_submissions_come_in_order_and_know_their_tasks(tmp_path: Path) -> None:
    paths = StudyPaths(tmp_path / "s")
    assert read_submissions(paths) == []
    write_submission(paths.slurm / "2026-01-02", "7", [["a", "b"], ["c"]])
    write_submission(paths.slurm / "2026-01-01", "6", [["a"]])
    (paths.slurm / "2026-01-03").mkdir()
    first, second = read_submissions(paths)
    assert (first.task_id(0), second.task_id(0), second.task_id(1)) == ("6", "7_0", "7_1")
    assert second.task_of == {"a": 0, "b": 0, "c": 1}
    assert second.study == paths
    assert new_folder(paths) != new_folder(paths)


def test_a_life_shows_while_it_lasts_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "task.alive"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert read_life(path) is None
    with beating(path, every_s=0.05):
        os.utime(path, (0, 0))
        time.sleep(0.3)
        life = read_life(path)
        assert life is not None
        assert (life.pid, life.restart, life.is_silent) == (os.getpid(), 3, False)
    assert not path.exists()


def test_a_life_that_ended_outright_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "task.alive"
    pid = os.fork()
    if pid == 0:
        with beating(path):
            os._exit(9)
    os.waitpid(pid, 0)
    life = read_life(path)
    assert life is not None
    assert not life.is_silent
    assert dataclasses.replace(life, silent_s=SILENT_S + 1).is_silent
