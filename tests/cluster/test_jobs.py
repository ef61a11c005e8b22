"""What submitit is told of its jobs; the jobs themselves in tests/hydra_plugins and test_submitit.py."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from submitit.core.utils import FailedJobError, UncompletedJobError

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


def job(result: Any) -> Any:
    def give() -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return SimpleNamespace(result=give, job_id="12_0", state="gone", paths=SimpleNamespace(stderr="/log"))


def test_what_a_job_came_to_is_a_result_or_says_what_happened() -> None:
    assert result_of(job(3)) == 3
    lost = result_of(job(UncompletedJobError("Job 12_0 has not produced any output\n" * 9)))
    assert str(lost) == "job 12_0 ended without a result (gone); its log: /log"
    trace = "Job (task=0) failed during processing with trace:\n-----\nTraceback\n  line\nValueError: why\n\n-----\n"
    assert str(result_of(job(FailedJobError(trace)))) == "job 12_0 failed: ValueError: why; its log: /log"
    assert isinstance(result_of(job(EOFError())), EOFError)


def test_jobs_of_slurm_go_on_and_are_named() -> None:
    there: Any = [SimpleNamespace(job_id="12_0"), SimpleNamespace(job_id="12_1"), SimpleNamespace(job_id="14")]
    assert stop(there) == "SLURM job 12 14 goes on without this command; `scancel 12 14` ends it."
    assert stop([]) == ""
