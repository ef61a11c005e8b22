"""A sign of life that works across machines: a file that the task's process touches.

SLURM goes on calling a task running whose processes were killed outright together with SLURM's own on the node, and
locks are not carried by every shared file system; the time of a file's last change is.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from src.records import write_json_atomic

BEAT_S = 5.0
# Beats may be late: a busy node, a file system that shows changes after some seconds.
SILENT_S = 35.0


@dataclass(frozen=True)
class Life:
    """What a task's process said of itself, and when it last did.

    Attributes:
        restart: how often SLURM had requeued the task before this process.
        silent_s: seconds since the last beat.
    """

    host: str
    pid: int
    restart: int
    silent_s: float

    @property
    def is_silent(self) -> bool:
        return self.silent_s > SILENT_S


@contextmanager
def beating(path: Path, every_s: float = BEAT_S) -> Iterator[None]:
    """Keep the file fresh while the block runs, and remove it when it ends, unless the process is killed.

    Raises:
        WriteError: the system refused to write.
    """
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    write_json_atomic(path, {"host": socket.gethostname(), "pid": os.getpid(), "restart": restart})
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            with suppress(OSError):  # a file system that is away for a moment
                os.utime(path)

    thread = threading.Thread(target=beat, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            path.unlink()


def read_life(path: Path) -> Life | None:
    """None where no process has begun, or the last one ended in order."""
    try:
        # Opened first: NFS then asks the server for the time of the last change.
        with path.open("rb") as stream:
            values, changed = json.loads(stream.read()), os.fstat(stream.fileno()).st_mtime
        return Life(str(values["host"]), int(values["pid"]), int(values["restart"]), time.time() - changed)
    except (OSError, ValueError, LookupError, TypeError):
        return None
