"""Counts, rates and times left behind every form of progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

Clock = Callable[[], float]


class Meter:
    """What is done of study, pack and epoch; seconds from `clock`.

    Time left follows from the mean rate since the start of the pack or study, so that validations, which come at
    intervals, count too.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.total_cells = self.skipped = self.ended = 0
        self._study_start = clock()
        self.begin_pack(0, 0, 1, 0)

    def begin_study(self, total_cells: int, skipped: int) -> None:
        self.total_cells, self.skipped, self.ended = total_cells, skipped, 0
        self._study_start = self._clock()

    def begin_pack(self, lanes: int, total_steps: int, steps_per_epoch: int, first_step: int) -> None:
        self.lanes, self.total_steps, self.steps_per_epoch = lanes, total_steps, max(1, steps_per_epoch)
        self.first_step = self.step = first_step
        self.tokens = 0
        self._pack_start = self._clock()
        self._ended_before = self.ended

    def join(self, last_step: int) -> None:
        self.lanes, self.total_steps = self.lanes + 1, last_step

    def advance(self, step: int, tokens: int) -> None:
        self.step, self.tokens = step, self.tokens + tokens

    @property
    def done_cells(self) -> int:
        return self.skipped + self.ended

    @property
    def tokens_per_s(self) -> float | None:
        elapsed = self._clock() - self._pack_start
        return self.tokens / elapsed if self.tokens and elapsed > 0 else None

    @property
    def pack_left_s(self) -> float | None:
        done = self.step - self.first_step
        return _left(self._clock() - self._pack_start, done, self.total_steps - self.step)

    @property
    def study_left_s(self) -> float | None:
        """Cells count for the part of their steps that is done; the last pack's time is the study's."""
        if self.lanes and self._ended_before + self.lanes >= self.total_cells - self.skipped:
            return self.pack_left_s
        span = self.total_steps - self.first_step
        share = (self.step - self.first_step) / span if span > 0 else 0.0
        done = max(float(self.ended), self._ended_before + self.lanes * share)
        return _left(self._clock() - self._study_start, done, self.total_cells - self.skipped - done)

    @property
    def epoch(self) -> tuple[int, int]:
        """The epoch being trained, from 1, and how many there are."""
        epochs = max(1, math.ceil(self.total_steps / self.steps_per_epoch))
        return min(epochs, self.step // self.steps_per_epoch + 1), epochs

    @property
    def epoch_steps(self) -> tuple[int, int]:
        """Steps done in this epoch, and its length; the last one may be cut short by max_steps."""
        begun = (self.epoch[0] - 1) * self.steps_per_epoch
        return self.step - begun, min(self.steps_per_epoch, self.total_steps - begun)


def _left(elapsed: float, done: float, remaining: float) -> float | None:
    return elapsed * max(0.0, remaining) / done if done > 0 else None
