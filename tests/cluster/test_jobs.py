"""What submitit is told of its jobs; the jobs themselves in tests/hydra_plugins and test_submitit.py."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import submitit

from src.cluster import jobs
from src.cluster.jobs import SILENCE_S, QueueWatcher, result_of, stop
from src.cluster.queue import Entry


def watched(monkeypatch: pytest.MonkeyPatch, queue: Mapping[str, Entry] | None) -> QueueWatcher:
    watcher = QueueWatcher()
    for job in ("7_0", "7_1"):
        watcher.register_job(job)
    monkeypatch.setattr(jobs, "read_queue", lambda names: queue)
    watcher.update()
    return watcher


@pytest.mark.parametrize(
    "word", ["PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "COMPLETING", "REQUEUED"]
)
def test_a_job_that_squeue_has_is_not_over(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    watcher = watched(monkeypatch, {"7_0": Entry(word, "None"), "7_1": Entry("RUNNING", "None")})
    assert not watcher.is_done("7_0", mode="cache")
    assert not watcher.is_done("7_1", mode="cache")


def test_a_job_that_is_gone_or_held_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = watched(monkeypatch, {"7_1": Entry("PENDING", "JobHeldUser")})
    assert watcher.is_done("7_0", mode="cache")
    assert watcher.is_done("7_1", mode="cache")


def test_a_squeue_that_does_not_answer_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = watched(monkeypatch, None)
    assert not watcher.is_done("7_0", mode="cache")
    now = jobs.time.monotonic()
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now + SILENCE_S + 1, time=jobs.time.time))
    watcher.update()
    assert watcher.is_done("7_0", mode="cache")


def raise_it() -> None:
    raise ValueError("the real cause")


def test_what_a_job_came_to_is_a_result_or_says_what_happened(tmp_path: Path) -> None:
    executor = submitit.LocalExecutor(tmp_path)
    good, bad, gone = executor.submit(max, 3, 2), executor.submit(raise_it), executor.submit(os._exit, 3)
    for job in (good, bad, gone):
        job.wait()
    assert result_of(good) == 3
    assert str(result_of(bad)) == f"job {bad.job_id} failed: ValueError: the real cause; its log: {bad.paths.stderr}"
    assert str(result_of(gone)) == f"job {gone.job_id} ended without a result; its log: {gone.paths.stderr}"
    bad.paths.result_pickle.write_bytes(b"no pickle")
    assert "left a result that cannot be read" in str(result_of(bad))


def test_jobs_of_slurm_go_on_and_are_named() -> None:
    there: Any = [SimpleNamespace(job_id="12_0"), SimpleNamespace(job_id="12_1"), SimpleNamespace(job_id="14")]
    assert stop(there) == "SLURM job 12 14 goes on without this command; `scancel 12 14` ends it."
    assert stop([]) == ""
