"""`python -m src.bench` as a person meets it, on a tiny model and tiny data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from src.bench import BENCHMARKS, cli
from tests.tiny_files import save_model, write_csv


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "model")
    write_csv(folder / "data.csv")
    return folder


def arguments(what: str, place: Path, output: Path, *more: str) -> list[str]:
    return [
        what, f"model.path={place / 'model'}", "task=own", f"task.path={place / 'data.csv'}", "task.test_split=null",
        "task.validation_size=12", "task.test_size=12", f"cache_dir={place / 'cache'}", f"output_dir={output}",
        "device=cpu", "dtype=float32", "batch=3", "length=12", "rank=2", *more,
    ]  # fmt: skip


def test_step(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(arguments("step", place, tmp_path, "rounds=5", "lanes=1,2", "dropout=0.1")) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "bench" / "step.json").read_text())
    markdown = (tmp_path / "bench" / "step.md").read_text()
    for words in (
        "matrix products",
        "ours, 2 lanes, each",
        "peft, DoRA",
        "loralib",
        "checked: ours and peft in float32",
    ):
        assert words in shown
    (table,) = found["tables"]
    assert table["title"] == "model, float32, 3 x 12 tokens, r = 2 on qv, dropout 0.1"
    assert {name: len(seconds) for name, seconds in found["raw"]["seconds"]["float32"].items()} == {
        row[0]: 5 for row in table["rows"]
    }
    tops = [row[0] for row in table["rows"] if "top" in row[0]]
    assert tops == ["ours, top 1 of 2 layers", "ours, top 1 of 2 layers, rest kept"]
    assert len(found["goals"]) == 6 and all(goal["met"] is not None for goal in found["goals"])
    assert all(goal["sentence"] in markdown for goal in found["goals"])
    assert "peft" in found["env"]["versions"] and found["options"]["lanes"] == [1, 2]
    assert shown.splitlines()[-1] == str(tmp_path / "bench" / "step.md")


def test_memory(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(arguments("memory", place, tmp_path, "targets=qv,oq", "dropout=0", "rows=kept")) == 0
    found = json.loads((tmp_path / "bench" / "memory.json").read_text())
    (kept,) = found["tables"]
    assert [row[0] for row in kept["rows"]] == ["qv, dropout 0", "qo, dropout 0"]
    for case in found["raw"]["float32"]["kept"]:
        assert case["sizes"]["minimum"] == sum(case["parts"].values()) <= case["sizes"]["ours"]
    assert len(found["goals"]) == 4
    assert "goal at most 0.55" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "benchmark is not set; allowed: one of step, memory"),
        (["nope"], "benchmark is 'nope'; allowed: one of step, memory"),
        (["step", "memory"], "benchmark is 'step memory'; allowed: one of"),
        (["step", "rounds=4"], "rounds is '4'; allowed: a whole number of at least 5."),
        (["step", "nope=1"], "There is no key nope."),
        (["step", "lora.dora=true"], "method is 'lora'; allowed: plain LoRA here"),
        (["step", "length=67"], "task.max_length is 67; allowed: at most 66, the model's positions."),
    ],
)
def test_wrong_questions_exit_with_2(
    wrong: list[str], said: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(wrong[0], place, tmp_path, *wrong[1:]) if wrong and "=" in wrong[-1] else wrong
    assert cli(given) == 2
    assert capsys.readouterr().err.startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_without_a_peer_one_sentence_says_how_to_install_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "loralib", None)
    assert cli(arguments("step", place, tmp_path)) == 1
    said = 'This benchmark compares with loralib, which is not installed: pip install -c constraints.txt -e ".[bench]"'
    assert capsys.readouterr().err.strip() == said


def test_help_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"python -m src.bench {name}" in shown for name in BENCHMARKS)
