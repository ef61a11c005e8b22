"""SlurmSpec: what hydra/launcher=slurm asks of a cluster."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from src.spec.frozen import FrozenMap

Check = tuple[str, object, bool, str]
LEAST_NOTICE_S, SECONDS = 10, 60
ALLOWED_SETUP = "a list of shell commands, each on one line"


@dataclass(frozen=True)
class SlurmSpec:
    """How packs are handed to SLURM; only the launcher ``slurm`` reads it.

    Attributes:
        wait: whether the command stays until all tasks have ended, and then reports.
        partition, account: as sbatch takes them; None for the cluster's defaults.
        gpus, cpus: of one task.
        memory: of one task, in GB (2^30 bytes); None for the partition's default.
        time: longest duration of one task before it is stopped, requeued and continued, in minutes.
        notice: seconds before that at which a task is asked to write its checkpoints.
        array_parallelism: most tasks that run at a time.
        cells_per_task: with ``pack=auto``, most cells of one task, which measures and packs them itself.
        requeues: how often a task is continued after preemption or the end of its time.
        setup: shell commands that come before a task.
        extra: further options of sbatch by their long names, such as ``constraint: a100``; ``true`` for one that takes
            no value.
    """

    wait: bool = True
    partition: str | None = None
    account: str | None = None
    gpus: int = 0
    cpus: int = 4
    memory: float | None = None
    time: int = 240
    notice: int = 120
    array_parallelism: int = 16
    cells_per_task: int = 16
    requeues: int = 50
    setup: tuple[str, ...] = ()
    extra: FrozenMap[str] | None = None


def slurm_checks(slurm: SlurmSpec) -> Iterator[Check]:
    """Key, value, whether it is allowed, and what is."""
    for name, least in (("gpus", 0), ("cpus", 1), ("time", 1), ("array_parallelism", 1), ("requeues", 0)):
        value = getattr(slurm, name)
        unit = " of minutes," if name == "time" else " of"
        yield f"slurm.{name}", value, value >= least, f"a whole number{unit} at least {least}"
    cells = slurm.cells_per_task
    yield "slurm.cells_per_task", cells, cells >= 1, "a whole number of at least 1"
    enough = slurm.memory is None or (math.isfinite(slurm.memory) and slurm.memory > 0)
    yield "slurm.memory", slurm.memory, enough, "GB above 0, or null for the partition's default"
    most = slurm.time * SECONDS - 1
    in_time = LEAST_NOTICE_S <= slurm.notice <= most
    yield (
        "slurm.notice",
        slurm.notice,
        in_time,
        f"whole seconds from {LEAST_NOTICE_S} to {most}, within slurm.time={slurm.time} (minutes)",
    )
    for name in ("partition", "account"):
        value = getattr(slurm, name)
        yield f"slurm.{name}", value, value is None or _is_word(value), "a name as sbatch takes it, or null"
    good = all(line and "\n" not in line for line in slurm.setup)
    yield "slurm.setup", list(slurm.setup), good, ALLOWED_SETUP
    for option, value in (slurm.extra or {}).items():
        plain = _OPTION.fullmatch(option) is not None and value.isprintable() and value != ""
        allowed = "a long option of sbatch without its dashes, such as constraint, and its value, or true for none"
        yield "slurm.extra", {option: value}, plain and not _is_own(option), f"{allowed}; not {', '.join(sorted(OWN))}"


# Options that the launcher sets by keys of its own, or needs for itself; and those that name commands, files and users,
# or would change what a task is.
OWN = frozenset(
    {"account", "array", "cpus-per-task", "error", "gpus", "gpus-per-node", "job-name", "mem", "nodes", "ntasks"}
    | {"ntasks-per-node", "open-mode", "output", "partition", "requeue", "no-requeue", "signal", "time", "wait"}
    | {"bb", "bbf", "bcast", "chdir", "cluster", "clusters", "container", "container-id", "epilog", "export"}
    | {"export-file", "get-user-env", "gid", "help", "input", "nodefile", "parsable", "prolog", "quiet"}
    | {"task-epilog", "task-prolog", "test-only", "uid", "usage", "version", "workdir", "wrap"}
)
_OPTION = re.compile(r"[a-z][a-z0-9_-]*")


def _is_own(option: str) -> bool:
    """sbatch takes the beginning of an option's name for the whole, and submitit an underscore for a dash."""
    name = option.replace("_", "-").rstrip("-")
    return any(own.startswith(name) for own in OWN)


def _is_word(text: str) -> bool:
    return text != "" and text.isprintable() and not any(letter.isspace() for letter in text)
