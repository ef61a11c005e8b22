from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.experiment.display.console import configure_logging
from src.experiment.display.progress import NullProgress, PlainProgress, Progress, RichProgress, make_progress
from tests.experiment.terminal import open_terminal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log(tmp_path: Path, src_logger: logging.Logger) -> Iterator[Path]:
    configure_logging(tmp_path / "study.log")
    yield tmp_path / "study.log"


def play(progress: Progress, clock: Clock, pause_s: float = 0.0) -> None:
    """Two lanes, 30 steps of 2 s, one of the lanes diverges."""
    progress.start_study(3, skipped=1)
    progress.start_pack(["qv r=4", "qkvo [bold]"], total_steps=30, steps_per_epoch=20)
    for step in range(1, 31):
        clock.now += 2
        progress.step(step, tokens=500)
        if step == 20:
            progress.evaluation({"qv r=4": 0.8125}, 20)
            progress.evaluation({"qkvo [bold]": None}, 20)
            time.sleep(pause_s)
    progress.cell_done("qv-r4", "completed", 0.8125)
    progress.cell_done("qkvo-r8", "diverged", None)
    progress.finish_pack()
    progress.stop()
    progress.stop()


def lines_of(log: Path) -> list[str]:
    return [line.split(" ", 2)[2] for line in log.read_text().splitlines()]


def test_plain_lines_come_every_ten_seconds_and_at_every_epoch(log: Path) -> None:
    clock = Clock()
    play(PlainProgress(clock), clock)
    lines = lines_of(log)
    steps = [line.split()[2].rstrip(",") for line in lines if line.startswith("INFO step")]
    assert steps == ["5/30", "10/30", "15/30", "20/30", "25/30", "30/30"]
    assert lines[0] == "INFO pack of 2 cells, steps 0 to 30: qv r=4, qkvo [bold]"
    assert lines[1] == "INFO step 5/30, epoch 1/2, 250 tokens/s, 50.0s left for the pack, 50.0s left for the study"
    assert "INFO validation at step 20: qv r=4 0.8125" in lines
    assert "INFO validation at step 20: qkvo [bold] -" in lines
    assert lines[-2:] == ["INFO qv-r4: completed, validation 0.8125 (2/3)", "WARNING qkvo-r8: diverged (3/3)"]


def test_an_epoch_that_ends_between_two_lines_has_its_own(log: Path) -> None:
    clock = Clock()
    progress = PlainProgress(clock)
    progress.start_pack(["a"], total_steps=9, steps_per_epoch=3)
    for step in range(1, 10):
        progress.step(step, tokens=1)
    assert [line.split()[2] for line in lines_of(log)[1:]] == ["3/9,", "6/9,", "9/9,"]


def test_who_takes_a_free_place_is_named_and_evaluated_at_its_own_steps(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with open_terminal() as (stream, screen):
        progress = RichProgress(stream, Clock())
        progress.start_study(3, skipped=0)
        progress.start_pack(["a", "b"], total_steps=30, steps_per_epoch=20)
        progress.step(12, tokens=1)
        progress.join("c", 42)
        progress.step(17, tokens=1)
        progress.evaluation({"c": 0.5}, 5)
        time.sleep(0.6)
        progress.stop()
    lines = lines_of(log)
    assert "INFO c takes a free place at step 12 of the pack" in lines
    assert "INFO validation at step 5: c 0.5000" in lines
    assert "17/42" in screen.text


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_bars_fit_the_terminal_and_the_log_has_the_same_lines(
    log: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    clock = Clock()
    with open_terminal() as (stream, screen):
        progress = make_progress(stream)
        assert isinstance(progress, RichProgress)
        play(RichProgress(stream, clock), clock, pause_s=0.6)  # bars are drawn four times a second
    frames = [line for part in screen.text.split("\n") for line in part.split("\r")]
    assert max(map(len, frames)) <= columns
    assert any("study" in line and "1/3" in line for line in frames)
    if columns >= 80:
        assert any("epoch 2/2, validation 0.812" in line and "━" in line and "0/10" in line for line in frames)
        assert any("250 tokens/s" in line and "━" in line for line in frames)
        assert any("qkvo [bold]" in line and "━" in line for line in frames)
    assert lines_of(log)[-1] == "WARNING qkvo-r8: diverged (3/3)"


def test_log_lines_stand_above_the_bars(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that went past the bars would be overwritten by their next frame."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with open_terminal() as (stream, screen):
        monkeypatch.setattr("sys.stderr", stream)
        progress = make_progress(stream)
        progress.start_study(1, skipped=0)
        logging.getLogger("src.test").warning("the disk is [bold]slow")
        progress.stop()
    assert "the disk is [bold]slow\n" in screen.text


def test_bars_give_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with open_terminal() as (stream, screen):
        progress = make_progress(stream)
        progress.start_study(1, skipped=0)
        progress.stop()
    assert screen.raw.rindex("\x1b[?25h") > screen.raw.rindex("\x1b[?25l")


def test_a_pipe_and_a_terminal_that_cannot_move_its_cursor_get_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_progress(io.StringIO()), PlainProgress)
    monkeypatch.setenv("TERM", "dumb")
    with open_terminal() as (stream, _):
        assert isinstance(make_progress(stream), PlainProgress)


def test_null_progress_is_silent(log: Path) -> None:
    play(NullProgress(), Clock())
    assert log.read_text() == ""
