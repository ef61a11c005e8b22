from __future__ import annotations

import logging
import logging.config
import sys
from pathlib import Path

import pytest

from src.comparison import StudyTable, find_all, no_examples
from src.errors import WriteError
from src.experiment.display.console import configure_logging, print_table
from src.records import RunRecord, Skipped, StudyPaths
from src.reporting import answer
from tests.experiment.terminal import open_terminal
from tests.record_factory import make_record, make_spec, study_table

PATHS = StudyPaths.of("outputs", "minilm-r52")
ROWS = [("qv", 1, 0.88), ("qv", 64, 0.9), ("qkvo", 8, 0.912), ("none", 1, 0.71)]


def default_records(**changes: object) -> list[RunRecord]:
    return [make_record(make_spec(targets, rank, **changes), score) for targets, rank, score in ROWS]


def told(study: StudyTable) -> list[str]:
    return answer(find_all(study.tables, no_examples, margin=0.01), study)


def shown_at(columns: int, study: StudyTable, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    with open_terminal() as (stream, screen):
        monkeypatch.setattr(sys, "stdout", stream)
        print_table(study, told(study), PATHS)
    return screen.text.splitlines()


def piped(study: StudyTable, capsys: pytest.CaptureFixture[str]) -> str:
    print_table(study, told(study), PATHS)
    return capsys.readouterr().out


def row_of(lines: list[str], targets: str) -> list[str]:
    return next(line for line in lines if line.split()[:1] == [targets]).split()


def test_the_usual_table_fits_80_columns_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown_at(80, study_table(*default_records()), monkeypatch)
    assert max(map(len, lines)) <= 80
    assert row_of(lines, "qkvo") == ["qkvo", "8", "16", "0.003", "1", "24,576", "0.9120", "0.8000", "1m", "00s"]
    assert "…" not in "".join(lines)


def test_a_narrow_terminal_loses_whole_columns_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    records = default_records(lora__dropout=0.1) + default_records(trainer__epochs=12, optim__head_lr=0.02)
    lines = shown_at(80, study_table(*records), monkeypatch)
    assert max(map(len, lines)) <= 80
    assert "Left out for lack of width: time, adapter parameters." in lines
    assert row_of(lines, "qkvo") == ["qkvo", "8", "16", "0.003", "0.1", "0.01", "1", "1", "0.9120", "0.8000"]
    assert "Left out" not in "".join(shown_at(120, study_table(*records), monkeypatch))


def test_a_pipe_gets_every_column_unwrapped_and_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    records = default_records(lora__dropout=0.1) + default_records(trainer__epochs=12, optim__head_lr=0.02)
    study = study_table(*records)
    text = piped(study, capsys)
    assert "\x1b" not in text and text.isascii()
    assert row_of(text.splitlines(), "qkvo")[-4:] == ["0.9120", "0.8000", "1m", "00s"]
    for sentence in told(study):
        assert f"{sentence}\n" in text
    for path in (PATHS.runs, PATHS.table_markdown, PATHS.table_csv, PATHS.log):
        assert str(path) in text


def test_failures_are_listed_in_one_line_each_and_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    failed = make_record(make_spec("q"), status="failed", message="\x1b[2J[red]no\nspace[/red] " + "long " * 100)
    study = study_table(*default_records(), failed)
    skipped = StudyTable("s", study.tables, (Skipped(Path("runs/bad/record.json"), "not strict JSON"),), ("half",))
    lines = piped(skipped, capsys).splitlines()
    start = lines.index("Not ranked:")
    cause = lines[start + 1]
    assert cause.startswith("  q r=4 (alpha 16, lr 0.003), seed 0: failed: ValueError: [2J[red]no space[/red] long")
    assert len(cause) < 250
    assert lines[start + 2] == "  runs/bad/record.json: not read: not strict JSON"
    assert "1 run has no record so far: the answer may change." in lines


def test_many_failures_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    text = piped(study_table(*(make_record(make_spec(seed=s), status="failed") for s in range(50))), capsys)
    assert text.count("ValueError") == 20
    assert "  and 30 more, all in the report\n" in text


def test_a_study_without_anything_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert piped(StudyTable("s", (), (), ()), capsys).startswith("No run has ended yet")


def test_lines_go_to_the_log_once_however_often_it_is_set_up(
    tmp_path: Path, src_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        configure_logging(tmp_path / "study" / "study.log")
    with caplog.at_level(logging.INFO):
        logging.getLogger("src.train").info("one line")
    assert len(src_logger.handlers) == 2
    assert caplog.text == ""  # Hydra's handlers on the root logger would print it again
    (line,) = (tmp_path / "study" / "study.log").read_text().splitlines()
    assert line.endswith("INFO one line") and line[:4].isdigit()


def test_a_second_study_has_its_own_log(tmp_path: Path, src_logger: logging.Logger) -> None:
    for name in ("a", "b"):
        configure_logging(tmp_path / name)
        src_logger.info("line of %s", name)
    assert "line of b" not in (tmp_path / "a").read_text()
    assert "line of a" not in (tmp_path / "b").read_text()


def test_the_log_survives_another_program_setting_up_logging(tmp_path: Path, src_logger: logging.Logger) -> None:
    """Hydra does so for each job, and logging then closes every handler there is."""
    configure_logging(tmp_path / "study.log")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    src_logger.info("still here")
    assert "still here" in (tmp_path / "study.log").read_text()


def test_a_pipe_sees_all_lines_and_a_terminal_only_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def speak() -> None:
        configure_logging(tmp_path / "study.log")
        logging.getLogger("src.train").info("an info")
        logging.getLogger("src.train").warning("a warning")

    speak()
    assert capsys.readouterr().err == "an info\na warning\n"
    monkeypatch.setenv("TERM", "xterm")
    with open_terminal() as (stream, screen):
        monkeypatch.setattr(sys, "stderr", stream)
        speak()
    assert screen.text == "a warning\n"


def test_tracebacks_go_to_the_log_and_to_the_console_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], src_logger: logging.Logger
) -> None:
    configure_logging(tmp_path / "study.log")
    src_logger.error("it failed", exc_info=ValueError("why"))
    assert capsys.readouterr().err == "it failed\n"
    assert "ValueError: why" in (tmp_path / "study.log").read_text()
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    src_logger.error("it failed", exc_info=ValueError("why"))
    assert "ValueError: why" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_is_a_clear_error(tmp_path: Path, src_logger: logging.Logger) -> None:
    (tmp_path / "study").write_text("in the way")
    with pytest.raises(WriteError, match=r"study\.log"):
        configure_logging(tmp_path / "study" / "study.log")
    assert src_logger.handlers == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_mentioned_once_and_without_traceback(
    capsys: pytest.CaptureFixture[str], src_logger: logging.Logger
) -> None:
    configure_logging(Path("/dev/full"))
    for number in range(3):
        src_logger.info("line %d", number)
    assert capsys.readouterr().err.splitlines() == [
        "Lines are missing from /dev/full: [Errno 28] No space left on device.", "line 0", "line 1", "line 2"
    ]  # fmt: skip


@pytest.mark.parametrize(("cells", "shown"), [(50, 50), (51, 20)])
def test_of_very_many_cells_the_best_are_printed(cells: int, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    text = piped(study_table(*(make_record(make_spec("qv", r), 0.5 + r / 1000) for r in range(1, cells + 1))), capsys)
    rows = [line.split()[1] for line in text.splitlines() if line.startswith("qv ")]
    assert rows == [str(rank) for rank in range(cells, cells - shown, -1)]
    assert ("The best 20 of 51 cells; table.csv has all." in text) == (shown < cells)
