"""`python -m src.latency` as a person meets it, on a tiny model without data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.latency import Options, cli, shapes
from tests.tiny_files import save_model
from tests.tiny_pictures import save_pictures_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("place") / "model")


def arguments(model: Path, output: Path, *more: str) -> list[str]:
    return [f"model.path={model}", f"output_dir={output}", "device=cpu", "trainer.dtype=float32", "rounds=5", *more]


def test_a_table_and_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(arguments(model, tmp_path, "batch=1,2", "length=16,8", "rank=3", "targets=vq", "bottleneck=5")) == 0
    shown = capsys.readouterr().out
    file = tmp_path / "latency" / "model-qv-r3-cpu-float32.json"
    assert shown.splitlines()[-1] == str(file)
    for words in ("6,912 parameters; float32 on", "1 x 16", "2 x 8", "LoRA merged", "Houlsby layers", "slower %"):
        assert words in shown
    found = json.loads(file.read_text())
    found_order = [(t["shape"], t["variant"]) for t in found["timings"]]
    assert found_order[4:6] == [([1, 16], "Lin layers"), ([2, 8], "base")]
    assert [t["parameters"] for t in found["timings"][:2]] == [0, 2 * 2 * 3 * 32]
    assert len(found["timings"][0]["seconds"]) == 5
    assert found["timings"][0]["slowdown_percent"] == 0
    assert found["rank"] == 3 and found["options"]["bottleneck"] == 5
    assert found["env"]["versions"]["torch"] and found["date"].endswith("Z")
    assert [path.name for path in (tmp_path / "latency").iterdir()] == [file.name]


def test_a_model_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures have the model's own size; without them the model cannot be timed, which one sentence says."""
    sees = save_pictures_model(tmp_path / "vit")
    given = arguments(sees, tmp_path, "batch=2,1", "rank=3", "targets=qv")
    assert cli([*given, "task=digits"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "5 rounds; pictures of 3 x 8 x 8" in shown and "2 pictures" in shown
    found = json.loads((tmp_path / "latency" / "vit-qv-r3-cpu-float32.json").read_text())
    assert [t["shape"] for t in found["timings"]][::5] == [[2, 3, 8, 8], [1, 3, 8, 8]]
    assert cli([*given, "task=digits", "length=8"]) == 2
    assert "length is '8'; allowed: nothing with task.image" in capsys.readouterr().err
    assert cli(given) == 2
    assert "task.image is not set; allowed: a column of pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["batch=1,2,3", "length=8,16"], "length is '8,16'; allowed: one length, or one for each batch: 3."),
        (["length=67"], "length is 67; allowed: at most 66, the model's positions."),
        (["batch=0"], "batch is '0'; allowed: whole numbers of at least 1 with commas"),
        (["batch=a"], "batch is 'a'; allowed: whole numbers"),
        (["rounds=4"], "rounds is '4'; allowed: a whole number of at least 5."),
        (["bottleneck=-1"], "bottleneck is '-1'; allowed: a whole number of at least 1."),
        (["targets=none"], "lora.targets is 'none'; allowed: sets that adapt something"),
        (["rank=17"], "lora.rank is 17; allowed: 1 to 16"),
        (["nope=1"], "There is no key nope."),
    ],
)
def test_wrong_questions_exit_with_2(
    wrong: list[str], said: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli([*arguments(model, tmp_path)[:-1], *wrong]) == 2
    assert capsys.readouterr().err.startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_model_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(arguments(tmp_path / "absent", tmp_path)) == 1
    assert "could not be loaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "gpu", "most", "expected"),
    [
        (Options(), True, None, [(32, 512), (16, 256), (1, 128)]),
        (Options(), False, None, [(4, 512), (2, 256), (1, 128)]),
        (Options(), False, 200, [(4, 200), (2, 200), (1, 128)]),
        (Options(batch="1,2", length="8"), False, 66, [(1, 8), (2, 8)]),
        (Options(batch="3", length="8,16"), False, 66, [(3, 8), (3, 16)]),
        (Options(batch="7,8"), False, 66, [(7, 66), (8, 66)]),
    ],
)
def test_shapes(options: Options, gpu: bool, most: int | None, expected: list[tuple[int, int]]) -> None:
    assert shapes(options, gpu=gpu, most=most) == expected


def test_help_tells_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["--help"]) == 0
    assert "python -m src.latency" in capsys.readouterr().out
