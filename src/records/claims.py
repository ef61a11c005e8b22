"""Who works on what in a study: locks that end with the process that holds them, however it ends.

    <study>/.claims/<run_id>    locked (flock) while somebody has it; says who, and is empty when it was given back
    <study>/.claims/.<name>     other things that one process does at a time

The system keeps the lock, so after a crash nothing has to be cleared away, and other machines see it where the file
system carries locks (NFS 4, Lustre with -o flock, GPFS). Files are never removed: somebody may be about to lock them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.records.atomic import cannot_write
from src.records.paths import StudyPaths

logger = logging.getLogger(__name__)

# How the claims begin of processes that start jobs for cells and train none themselves.
LAUNCHER = ".launcher-"
_TAKEN = {errno.EWOULDBLOCK, errno.EACCES}
# Who looks whether a claim is held locks it for a moment.
TRIES, PAUSE_S = 4, 0.005


@dataclass(frozen=True)
class Holder:
    """A process that holds a claim.

    Attributes:
        since: Unix time at which it took the claim, in seconds.
        job: its SLURM job, ``<array job>_<task>`` or ``<job>``; None outside of SLURM.
        alone: whether it is a job of submitit_local, which trains one cell and no other.
    """

    host: str
    pid: int
    since: float
    job: str | None = None
    alone: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether it takes other cells of the study when it has done this one."""
        return self.job is None and not self.alone


class Claims:
    """The claims of this process on a study, and a view of those of others."""

    def __init__(self, paths: StudyPaths) -> None:
        self._folder = paths.claims
        self._held: dict[str, int] = {}

    def take(self, name: str, *, to_train: bool = True) -> bool:
        """Claim a name; False where another process holds it.

        On a file system without locks every claim is granted, with one word of warning.

        Args:
            to_train: whether a signal that kills this process now speaks against what the name stands for.

        Raises:
            WriteError: the system refused to write in the study's folder.
        """
        if name in self._held:
            return True
        path = self._folder / name
        try:
            handle = _locked(path)
            if handle is None:
                return False
        except OSError as error:
            raise cannot_write(path, error) from error
        self._held[name] = handle
        with suppress(OSError):  # on a full disk others do not learn who it is
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({**asdict(_me()), "to_train": to_train}).encode(), 0)
        return True

    def release(self, name: str) -> None:
        """Give a claim back; nothing happens where it is not held."""
        handle = self._held.pop(name, None)
        if handle is not None:
            with suppress(OSError):
                os.ftruncate(handle, 0)
            os.close(handle)

    def close(self) -> None:
        """Give all claims back."""
        for name in list(self._held):
            self.release(name)

    def holder(self, name: str) -> Holder | None:
        """The other process that holds a name now, None without one."""
        return None if name in self._held else _holder(self._folder / name)

    def others(self) -> dict[str, Holder]:
        """What other processes hold now."""
        held = {path.name: self.holder(path.name) for path in self._written()}
        return {name: holder for name, holder in held.items() if holder is not None}

    def left(self) -> dict[str, float]:
        """What a process held when it was killed, and nobody holds now: since when it did (Unix time, seconds)."""
        names = [path.name for path in self._written() if path.name not in self._held]
        values = {name: _values(self._folder / name).get("since") for name in names if self.holder(name) is None}
        return {name: since for name, since in values.items() if isinstance(since, float)}

    def left_by(self, pid: int) -> set[str]:
        """Runs that a process of this machine was training when it was killed, and that nobody holds now."""
        left = set()
        for path in self._written():
            values = _values(path)
            mine = values.get("host") == socket.gethostname() and values.get("pid") == pid
            if mine and values.get("to_train") and not path.name.startswith(".") and self.holder(path.name) is None:
                left.add(path.name)
        return left

    def _written(self) -> list[Path]:
        """Claims that are held, or were when their process was killed."""
        try:
            return sorted(path for path in self._folder.iterdir() if path.stat().st_size)
        except OSError:
            return []


def _locked(path: Path) -> int | None:
    """A handle to the locked file, None where another process has the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        for turn in range(TRIES):
            if turn:
                time.sleep(PAUSE_S)
            if _try_lock(handle, fcntl.LOCK_EX):
                return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise
        logger.warning("This file system has no locks: do not run one study in two processes at the same time.")
    return True


def _holder(path: Path) -> Holder | None:
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        if _try_lock(handle, fcntl.LOCK_SH):
            return None
    except OSError:
        return None
    finally:
        os.close(handle)
    values = _values(path)
    try:
        alone = values.get("alone") is True
        return Holder(str(values["host"]), int(values["pid"]), float(values["since"]), values.get("job"), alone)
    except (LookupError, TypeError, ValueError):  # it has taken the claim this instant
        return Holder("unknown", 0, time.time())


def _values(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        values = json.loads(path.read_bytes())
        return values if isinstance(values, dict) else {}
    return {}


def _me() -> Holder:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
    alone = os.environ.get("SUBMITIT_EXECUTOR") == "local"
    return Holder(socket.gethostname(), os.getpid(), time.time(), job, alone)
