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
        ([], "budget is not set; allowed: budget=<adapter parameters>"),
        (["budget=400", "targets=qx"], "targets is 'qx'; allowed: letters of qkvougd"),
        (["budget=400", "rank=3"], "exactly one"),
        (["budget=400", "method=full"], "method is 'full'; allowed: lora or lora_prefix"),
        (["rank=4", "method=prefix"], "method is 'prefix'; allowed: lora or lora_prefix"),
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


def test_an_unknown_architecture_asks_for_the_places_of_the_letters(folder, capsys):
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert cli([f"model.path={folder}", "budget=400"]) == 2
    assert "model.projections" in capsys.readouterr().err


def test_a_budget_also_sizes_the_other_methods(folder, capsys):
    """Llama of width 16: a prefix token costs 2 layers x 2 x 8, the subspace one for one; there are no biases."""
    assert cli([f"model.path={folder}", "budget=400", "targets=q", "task.max_length=16"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"prefix +12 +384 +\S+ +16", shown)
    assert re.search(r"random_subspace +400 +400 +\S+ +0", shown)
    assert "bitfit: method.name is 'bitfit'; allowed: another method" in shown
    assert cli([f"model.path={folder}", "rank=2", "targets=q"]) == 0
    assert "prefix" not in capsys.readouterr().out


def test_doras_magnitudes_are_part_of_the_budget(folder, capsys):
    """16 output units in each of two layers leave 400 - 32 for factors of 64 a rank."""
    assert cli([f"model.path={folder}", "lora=dora", "budget=400", "targets=q"]) == 0
    assert table_of(capsys.readouterr().out)["q"][:2] == [5, 352]


def test_a_prefix_takes_its_share_of_the_budget_first(folder, capsys):
    """Two tokens take 2 x 32 of 400, as two layers have keys and values 8 wide; 336 are left for 64 a rank."""
    options = [f"model.path={folder}", "method=lora_prefix", "method.size=2", "task.max_length=16"]
    assert cli([*options, "budget=400", "targets=q"]) == 0
    row = table_of(capsys.readouterr().out)["q"]
    assert (row[0], row[1], row[3]) == (5, 384, 16)


def test_ranks_that_differ_are_told(folder, capsys):
    assert cli([f"model.path={folder}", "rank=2", "lora.ranks={q: 4}", "targets=qv"]) == 0
    shown = capsys.readouterr().out
    assert table_of(shown)["qv"][1] == 4 * 64 + 2 * 48
    assert "qv: ranks 2 to 4" in shown
