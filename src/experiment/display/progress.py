"""Progress of a study: bars on a terminal, log lines everywhere.

Log lines go to the logger ``src``; console.py decides where they appear. The experiment talks to a `Progress` and never
asks whether there is a terminal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from src.experiment.display.meter import Clock, Meter
from src.records.text import duration, one_line, show

LINE_EVERY_S = 10.0
logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Told by the experiment what happens; shows it or not. `stop` may be called twice."""

    def start_study(self, total_cells: int, skipped: int) -> None:
        """`total_cells` includes the `skipped` ones, which are complete already."""

    def start_pack(self, labels: Sequence[str], total_steps: int, steps_per_epoch: int, first_step: int = 0) -> None:
        """`labels` name the lanes; a resumed pack has `first_step` optimiser steps behind it."""

    def step(self, step: int, tokens: int) -> None:
        """`step` optimiser steps of the pack are done; the last one took `tokens` tokens over all lanes."""

    def join(self, label: str, last_step: int) -> None:
        """A lane takes a free place; the pack's present lanes will be done at its step `last_step`."""

    def evaluation(self, scores: Mapping[str, float | None], step: int) -> None:
        """Validation scores by lane label, after so many steps of these lanes."""

    def finish_pack(self) -> None: ...

    def cell_done(self, run_id: str, status: str, score: float | None) -> None:
        """A record was written; also for cells that failed before their pack started."""

    def note(self, text: str) -> None:
        """One line that a person should see."""

    def stop(self) -> None:
        """Give the terminal back."""


class NullProgress:
    """Shows nothing."""

    def start_study(self, total_cells: int, skipped: int) -> None: ...

    def start_pack(
        self, labels: Sequence[str], total_steps: int, steps_per_epoch: int, first_step: int = 0
    ) -> None: ...

    def step(self, step: int, tokens: int) -> None: ...

    def join(self, label: str, last_step: int) -> None: ...

    def evaluation(self, scores: Mapping[str, float | None], step: int) -> None: ...

    def finish_pack(self) -> None: ...

    def cell_done(self, run_id: str, status: str, score: float | None) -> None: ...

    def note(self, text: str) -> None: ...

    def stop(self) -> None: ...


class PlainProgress:
    """Log lines only: each pack, epoch, validation and cell, and the rate every `LINE_EVERY_S` seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._last_line = clock()
        self.meter = Meter(clock)

    def start_study(self, total_cells: int, skipped: int) -> None:
        self.meter.begin_study(total_cells, skipped)

    def start_pack(self, labels: Sequence[str], total_steps: int, steps_per_epoch: int, first_step: int = 0) -> None:
        self.meter.begin_pack(len(labels), total_steps, steps_per_epoch, first_step)
        self._last_line = self._clock()
        cells = f"{len(labels)} cell{'' if len(labels) == 1 else 's'}"
        logger.info("pack of %s, steps %d to %d: %s", cells, first_step, total_steps, ", ".join(labels))

    def step(self, step: int, tokens: int) -> None:
        epoch = self.meter.epoch
        self.meter.advance(step, tokens)
        due = self._clock() - self._last_line >= LINE_EVERY_S
        if due or epoch != self.meter.epoch or step == self.meter.total_steps:
            self._last_line = self._clock()
            logger.info("%s", self._rates())

    def join(self, label: str, last_step: int) -> None:
        self.meter.join(last_step)
        logger.info("%s takes a free place at step %d of the pack", label, self.meter.step)

    def evaluation(self, scores: Mapping[str, float | None], step: int) -> None:
        listed = ", ".join(f"{label} {show(score, 'score')}" for label, score in scores.items())
        logger.info("validation at step %d: %s", step, listed)

    def finish_pack(self) -> None: ...

    def cell_done(self, run_id: str, status: str, score: float | None) -> None:
        self.meter.ended += status != "interrupted"
        # What failed is logged with its cause where it was caught.
        level = logging.WARNING if status == "diverged" else logging.INFO
        scored = "" if score is None else f", validation {show(score, 'score')}"
        logger.log(level, "%s: %s%s (%d/%d)", run_id, status, scored, self.meter.done_cells, self.meter.total_cells)

    def note(self, text: str) -> None:
        logger.info("%s", text)

    def stop(self) -> None: ...

    def _rates(self) -> str:
        meter, (epoch, epochs) = self.meter, self.meter.epoch
        done = f"step {meter.step}/{meter.total_steps}, epoch {epoch}/{epochs}"
        lefts = {"pack": left_text(meter.pack_left_s), "study": left_text(meter.study_left_s)}
        timed = [f"{text} for the {name}" for name, text in lefts.items() if text]
        parts = [done, rate_text(meter.tokens_per_s), *timed]
        return ", ".join(part for part in parts if part)


class RichProgress:
    """Three bars on a terminal, and the log lines of `PlainProgress`."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self._plain = PlainProgress(clock)
        self._bars = Bars(*_columns(), console=Console(file=stream), transient=True, refresh_per_second=4, expand=True)
        self._study = self._bars.add_task("study", total=None, rate="", left="")
        self._pack: TaskID | None = None
        self._epoch: TaskID | None = None
        self._scores: dict[str, float] = {}

    def start_study(self, total_cells: int, skipped: int) -> None:
        self._plain.start_study(total_cells, skipped)
        self._bars.update(self._study, total=total_cells, completed=skipped)
        self._bars.start()

    def start_pack(self, labels: Sequence[str], total_steps: int, steps_per_epoch: int, first_step: int = 0) -> None:
        self._plain.start_pack(labels, total_steps, steps_per_epoch, first_step)
        self._scores = {}
        self._remove_pack()
        self._pack = self._bars.add_task(one_line(", ".join(labels)), total=total_steps, rate="", left="")
        self._epoch = self._bars.add_task("epoch", total=steps_per_epoch, rate="", left="")
        self._refresh()

    def step(self, step: int, tokens: int) -> None:
        self._plain.step(step, tokens)
        self._refresh()

    def join(self, label: str, last_step: int) -> None:
        self._plain.join(label, last_step)
        if self._pack is not None:
            self._bars.update(self._pack, total=last_step)
        self._refresh()

    def evaluation(self, scores: Mapping[str, float | None], step: int) -> None:
        self._plain.evaluation(scores, step)
        self._scores |= {label: score for label, score in scores.items() if score is not None}
        self._refresh()

    def finish_pack(self) -> None:
        self._plain.finish_pack()
        self._remove_pack()

    def cell_done(self, run_id: str, status: str, score: float | None) -> None:
        self._plain.cell_done(run_id, status, score)
        self._refresh()

    def note(self, text: str) -> None:
        self._plain.note(text)
        self._bars.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        self._bars.stop()

    def _refresh(self) -> None:
        meter = self._plain.meter
        self._bars.update(self._study, completed=meter.done_cells, left=left_text(meter.study_left_s))
        if self._pack is not None and self._epoch is not None:
            rate, left = rate_text(meter.tokens_per_s), left_text(meter.pack_left_s)
            self._bars.update(self._pack, completed=meter.step, rate=rate, left=left)
            (epoch, epochs), (done, length) = meter.epoch, meter.epoch_steps
            name = f"epoch {epoch}/{epochs}{spread_text(self._scores.values())}"
            self._bars.update(self._epoch, description=name, completed=done, total=length)

    def _remove_pack(self) -> None:
        for task in (self._pack, self._epoch):
            if task is not None:
                self._bars.remove_task(task)
        self._pack = self._epoch = None


def make_progress(stream: TextIO) -> Progress:
    """Bars where `stream` is a terminal that can move its cursor, else log lines."""
    return RichProgress(stream) if is_interactive(stream) else PlainProgress()


def is_interactive(stream: TextIO) -> bool:
    return Console(file=stream).is_interactive


def rate_text(tokens_per_s: float | None) -> str:
    return "" if tokens_per_s is None else f"{tokens_per_s:,.0f} tokens/s"


def left_text(seconds: float | None) -> str:
    """Nothing after the last step: tests and records follow, for a time that no rate tells."""
    return f"{duration(seconds)} left" if seconds else ""


def spread_text(scores: Collection[float]) -> str:
    """Lowest and highest of the lanes' latest validation scores."""
    ends = dict.fromkeys(f"{score:.3g}" for score in (min(scores), max(scores))) if scores else {}
    return f", validation {' to '.join(ends)}" if ends else ""


def _columns() -> list[ProgressColumn]:
    """The description gives way first: rates and times stay readable at 80 columns."""
    return [
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=3, no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        TextColumn("{task.completed:.0f}/{task.total}", table_column=Column(justify="right", no_wrap=True)),
        TextColumn("{task.fields[rate]}", table_column=Column(justify="right", no_wrap=True)),
        TextColumn("{task.fields[left]}", table_column=Column(justify="right", no_wrap=True)),
    ]
