"""`python -m src.budget`: the table as a person sees it, from real configs, without weights."""

from __future__ import annotations

import json
import re

import pytest

from src.budget import cli
from tests.tiny import CONFIGS


@pytest.fixture
def folder(tmp_path):
    """A local model folder that holds a config and no weights."""
    CONFIGS["llama"].save_pretrained(tmp_path)
    return tmp_path


def table_of(text):
    """Rows by target set: rank, parameters, share in percent, residual."""
    rows = [line.split() for line in text.splitlines() if re.match(r"^ ?[qkvougd]+ +\d", line)]
    return {row[0]: [float(cell.replace(",", "").rstrip("%")) for cell in row[1:]] for row in rows}


def test_ranks_follow_from_the_real_shapes(folder, capsys):
    """Width 16, key and value width 8, MLP 24, two layers: q costs 64 a rank, k and v 48, u, g and d 80."""
    assert cli([f"model.path={folder}", "budget=400", "targets=q,kv,vq,all"]) == 0
    shown = capsys.readouterr().out
    rows = table_of(shown)
    assert {name: row[:2] + row[3:] for name, row in rows.items()} == {
        "q": [6, 384, 16],
        "kv": [4, 384, 16],
        "qv": [3, 336, 64],
    }
    assert "qkvougd: lora.budget is 400; allowed: at least 464, rank 1" in shown


def test_share_is_of_the_whole_base(folder, capsys):
    assert cli([f"model.path={folder}", "rank=2", "targets=q"]) == 0
    shown = capsys.readouterr().out
    base = int(re.search(r"([\d,]+) parameters", shown)[1].replace(",", ""))
    assert table_of(shown)["q"][2] == pytest.approx(100 * 128 / base, abs=6e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "budget is nothing; allowed: budget=<adapter parameters>"),
        (["budget=400", "targets=qx"], "targets is 'qx'; allowed: letters of qkvougd"),
        (["budget=400", "rank=3"], "exactly one"),
        (["budget=400", "lora.layers=1-2"], "lora.layers is '1-2'; allowed: a-b with 0 <= a <= b <= 1"),
    ],
)
def test_wrong_questions_exit_with_2_and_say_what_is_allowed(folder, capsys, arguments, said):
    assert cli([f"model.path={folder}", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_model_exits_with_1_in_one_paragraph(tmp_path, capsys):
    assert cli([f"model.path={tmp_path / 'absent'}", "budget=400"]) == 1
    error = capsys.readouterr().err
    assert "could not be loaded" in error and "Traceback" not in error and len(error.strip().splitlines()) == 1


def test_an_unknown_architecture_lists_those_that_have_a_table(folder, capsys):
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert cli([f"model.path={folder}", "budget=400"]) == 1
    assert "there are tables for bert, gpt2" in capsys.readouterr().err
