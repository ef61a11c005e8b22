"""What SLURM says of its jobs, without accounting: squeue and scontrol, never sacct.

squeue forgets a job that has ended (after MinJobAge, five minutes by default) and calls one completed whose Python
failed, so it is asked one thing alone: whether a task is still queued or running.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from src.records.text import one_line

ANSWER_S = 20
# Tasks that stay in the queue until a person does something.
STUCK = re.compile(r"held|hold|BadConstraints|DependencyNeverSatisfied|InvalidAccount|InvalidQOS", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A task that is queued, running or on its way out.

    Attributes:
        state: SLURM's word: PENDING, RUNNING, COMPLETING ...
        reason: why it is pending.
    """

    state: str
    reason: str

    @property
    def has_started(self) -> bool:
        return self.state in {"RUNNING", "COMPLETING"}

    @property
    def is_stuck(self) -> bool:
        """Whether it will not start by itself."""
        return self.state == "PENDING" and STUCK.search(self.reason) is not None


def read_queue(jobs: Iterable[str | None]) -> Mapping[str, Entry] | None:
    """Tasks of these jobs that SLURM still has, by ``<job>`` or ``<job>_<index>``; a submission without a job has none.

    Returns:
        None where there is no answer: no squeue, or a controller that is away.
    """
    wanted = sorted({job for job in jobs if job is not None})
    if not wanted:
        return {}
    done = _run("squeue", "--noheader", "--array", "--all", "--format=%i|%T|%r", f"--jobs={','.join(wanted)}")
    if done is None:
        return None
    if done.returncode != 0:
        # Of a single job that is forgotten; of several those that are not are listed.
        return {} if "Invalid job id" in done.stderr else None
    rows = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
    return {name: Entry(state, one_line(reason, 60)) for name, state, reason in rows}


def read_facts(job: str) -> Mapping[str, str]:
    """What ``scontrol show job`` says of one task, such as Restarts and PreemptTime; empty without an answer."""
    done = _run("scontrol", "--oneliner", "show", "job", job)
    text = done.stdout if done is not None and done.returncode == 0 else ""
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def is_preempted(job: str) -> bool:
    """Whether SLURM is taking a running job's place away, which it also tells by a plain SIGTERM."""
    return read_facts(job).get("PreemptTime", "None") != "None"


def requeue(job: str) -> bool:
    """Put a running job back into the queue; False where SLURM refuses."""
    done = _run("scontrol", "requeue", job)
    return done is not None and done.returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
