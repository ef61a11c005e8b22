from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src.errors import HarnessError
from src.report import main
from tests.record_factory import make_record, make_spec, save


def run(tmp_path: Path, *arguments: str) -> int:
    return main([*arguments, "--output-dir", str(tmp_path)])


def test_the_report_is_rewritten_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = save(tmp_path, "minilm-r52", make_record(make_spec("qv", 4), 0.905))
    assert run(tmp_path, "minilm-r52") == 0
    save(tmp_path, "minilm-r52", make_record(make_spec("qv", 64), 0.912))
    paths.run("half").checkpoints.mkdir(parents=True)
    capsys.readouterr()
    assert run(tmp_path, "minilm-r52") == 0
    out, err = capsys.readouterr()
    assert "Smallest rank within 0.01 of it: qv r=4 " in out and "1 run has no record so far" in out
    assert err == ""
    assert "| qv | 64 |" in paths.table_markdown.read_text()
    assert "0.912" in paths.table_csv.read_text()
    assert out.endswith(f"page  {paths.page}\n") and "qv r=64" in paths.page.read_text()


def test_the_margin_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, "s", make_record(make_spec("qv", 4), 0.905), make_record(make_spec("qv", 64), 0.912))
    assert run(tmp_path, "s", "--within", "0.001") == 0
    assert "No smaller rank comes within 0.001 of it." in capsys.readouterr().out


@pytest.mark.parametrize("margin", ["nan", "-1", "-0.001", "inf", "many"])
def test_a_margin_that_means_nothing_is_refused(
    tmp_path: Path, margin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, "s", make_record(make_spec("qv", 4), 0.905))
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "s", f"--within={margin}")
    assert f"{margin!r} is not allowed; a number of at least 0" in capsys.readouterr().err
    assert not (tmp_path / "s" / "report").exists()


def test_help_does_not_wait_for_what_only_reports_need() -> None:
    heavy = "{'matplotlib', 'pandas', 'pyarrow', 'jinja2', 'torch'}"
    check = f"import sys, src.report; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_study_is_one_sentence_and_the_others_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, "a", make_record(make_spec()))
    save(tmp_path, "b", make_record(make_spec()))
    assert run(tmp_path, "nowhere", "b") == 1
    out, err = capsys.readouterr()
    assert err == f"No study 'nowhere' in {tmp_path}; there are: a, b. Another folder takes --output-dir <folder>.\n"
    assert "Best by validation accuracy" in out
    assert not (tmp_path / "nowhere").exists()


def test_no_study_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "outputs", "a") == 1
    said = f"No study 'a' in {tmp_path / 'outputs'}; no other either. Another folder takes --output-dir <folder>.\n"
    assert capsys.readouterr().err == said


def test_a_study_that_has_just_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a" / "runs" / "half").mkdir(parents=True)
    assert run(tmp_path, "a") == 1
    assert capsys.readouterr().err == f"Study 'a' in {tmp_path} has no records so far; 1 run has started.\n"
    assert not (tmp_path / "a" / "report").exists()


def test_a_study_of_nothing_but_corrupt_records_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "a" / "runs" / "bad" / "record.json"
    bad.parent.mkdir(parents=True)
    bad.write_text("{")
    assert run(tmp_path, "a") == 0
    assert f"{bad}: not read: not strict JSON" in capsys.readouterr().out


def test_the_traceback_is_there_for_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(HarnessError, match="No study"):
        run(tmp_path, "nowhere")


def test_a_reader_that_closes_the_pipe_is_no_error(tmp_path: Path) -> None:
    """As with `python -m src.report study | head -1`."""
    save(tmp_path, "a", *(make_record(make_spec("qv", rank)) for rank in range(1, 65)))
    command = [sys.executable, "-m", "src.report", *["a"] * 40, "--output-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "minilm on r52, accuracy\n"
        process.stdout.close()
        assert process.stderr.read() == ""
