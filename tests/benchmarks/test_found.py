"""Goals in words, tables as Markdown, files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from src.benchmarks.found import Found, Goal, Table
from src.benchmarks.request import Request
from src.benchmarks.show import as_markdown, show, write
from src.config import to_settings, to_spec
from src.config.compose import compose_config

FOUND = Found(
    tables=(Table("a title", ("", "median ms", "/ base"), (("base", "2.5", ""), ("a|b", "5", "2.000"))),),
    goals=(Goal("a / b", 2.0, 1.1, "at most"),),
    checks=("a and b: 0 apart",),
    raw={"seconds": {"base": [1.0, 2.0]}},
    env={"device_name": "a processor", "threads": 2, "versions": {"python": "3.11", "torch": "2.13"}},
    notes=("A note.",),
)


@pytest.mark.parametrize(
    ("goal", "met", "sentence"),
    [
        (Goal("a / b", 1.071, 1.1, "at most"), True, "a / b: 1.07, goal at most 1.1: met"),
        (Goal("a / b", 1.2, 1.1, "at most"), False, "a / b: 1.2, goal at most 1.1: not met"),
        (Goal("a", 0.8, 0.8, "at least", beside="b: 0.5"), True, "a: 0.8 (b: 0.5), goal at least 0.8: met"),
        (Goal("a", 0.79, 0.8, "at least"), False, "a: 0.79, goal at least 0.8: not met"),
        (Goal("a", None, 3.0, "at least", why="no GPU here"), None, "a: not measured, goal at least 3: no GPU here"),
    ],
)
def test_goals(goal: Goal, met: bool | None, sentence: str) -> None:
    assert goal.met is met
    assert goal.sentence == sentence


def request(folder: Path) -> Request:
    config = compose_config([f"output_dir={folder}"])
    return Request("step", to_spec(config), to_settings(config), {"rounds": 5, "lanes": (1, 8)}, (), "the command")


def test_markdown_can_go_into_a_page(tmp_path: Path) -> None:
    text = as_markdown(FOUND, request(tmp_path), "2026-01-02T03:04:05Z")
    assert text.splitlines() == [
        "`the command`",
        "",
        "2026-01-02, a processor, 2 threads, torch 2.13.",
        "",
        "Checked first: a and b: 0 apart.",
        "",
        "a title",
        "",
        "|  | median ms | / base |",
        "| --- | ---: | ---: |",
        "| base | 2.5 |  |",
        "| a\\|b | 5 | 2.000 |",
        "",
        "A note.",
        "",
        "- a / b: 2, goal at most 1.1: not met",
    ]


def test_files_hold_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(FOUND)
    shown = capsys.readouterr().out
    assert "checked: a and b: 0 apart" in shown and "a title" in shown and "not met" in shown
    json_file, markdown_file = write(FOUND, request(tmp_path))
    assert sorted((tmp_path / "bench").iterdir()) == [json_file, markdown_file]
    found = json.loads(json_file.read_text())
    assert found["raw"] == FOUND.raw and found["env"] == FOUND.env and found["command"] == "the command"
    assert found["options"] == {"rounds": 5, "lanes": [1, 8]} and found["date"].endswith("Z")
    assert found["goals"][0] == {
        **dataclasses.asdict(FOUND.goals[0]), "met": False, "sentence": FOUND.goals[0].sentence
    }  # fmt: skip
    assert found["tables"][0]["rows"][1] == ["a|b", "5", "2.000"]
    assert found["spec"]["lora"]["targets"] == "qv"
