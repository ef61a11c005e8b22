"""The step that a run is at, in its folder, for whoever watches from another process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

EVERY_S = 5.0
# Writing takes at most this share of the time, however many lanes there are and however slow the file system is.
SHARE = 0.01


class StepFiles:
    """Writes ``progress.json`` of each lane every few seconds; a failure to write is nobody's trouble."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock() + EVERY_S

    def update(self, lanes: Iterable[tuple[Path, int, int]]) -> None:
        """Args:
        lanes: of each the file, the optimiser steps taken, and those there will be.
        """
        started = self._clock()
        if started < self._due:
            return
        for path, step, steps in lanes:
            with suppress(OSError):
                # Renamed, so that nobody reads half of it, and not synced: what is lost in a crash is soon outdated.
                temporary = path.with_name(f".{path.name}.tmp")
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(json.dumps({"step": step, "steps": steps}))
                temporary.replace(path)
        ended = self._clock()
        self._due = ended + max(EVERY_S, (ended - started) / SHARE)


def forget_step(path: Path) -> None:
    """The run has its last record."""
    with suppress(OSError):
        path.unlink()
