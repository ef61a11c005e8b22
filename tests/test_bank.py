"""`python -m src.bank` as a person meets it: a study's adapters over one base."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import peft
import pytest
from transformers import AutoModel

from src.bank import cli
from src.experiment.bank.serving import imported
from src.experiment.study import run_study
from src.spec import ModelSpec
from tests.bank_place import SHORT, bank, classifying_study, pictures_study, run_of, train
from tests.experiment.workplace import STUDY, Workplace, build
from tests.record_factory import make_record, make_spec, save
from tests.tiny import tiny
from tests.tiny_architectures import CASES


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    return classifying_study(tmp_path_factory.mktemp("place"))


def test_a_table_and_a_file(
    classifiers: tuple[Workplace, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, output = classifiers
    theirs = peft.get_peft_model(
        tiny("bert").float(), peft.LoraConfig(r=3, target_modules=["dense"], init_lora_weights=False, use_rslora=True)
    )
    theirs.save_pretrained(tmp_path / "mood")
    arguments = (STUDY, "batch=7", "length=9", "rounds=5", f"import={tmp_path / 'mood'}")
    assert bank(place, output, *arguments) == 0
    shown = capsys.readouterr().out
    file = output / STUDY / "bank.json"
    assert shown.splitlines()[-1] == str(file)
    for words in (
        "5 adapters; float32 on",
        "5 whole models",
        "7 x 9",
        "mixed batch, 5 adapters",
        "in place",
        "Answers of all 5 agree: merged",
        "1e-04 allowed in float32",
    ):
        assert words in shown
    assert "mood: 2 saved tensors belong to no letter and were left out, such as base_model.model.pooler" in shown
    (found,) = json.loads(file.read_text())["bases"]
    residents = {resident["name"]: resident for resident in found["residents"]}
    assert list(residents)[-1] == "mood" and len(residents) == 5
    for targets in ("qv", "qkvo", "q", "k"):
        name, run = run_of(output, targets)
        files = [run.head, *run.adapter.iterdir()]
        assert residents[name]["disk_bytes"] == sum(file.stat().st_size for file in files)
    weights = 4 * sum(p.numel() for p in tiny("bert").parameters())
    assert found["base_bytes"] - weights == 2 * 66 * 8  # positions and token types, buffers of int64
    assert found["whole_models_bytes"] == 5 * found["base_bytes"]
    assert found["checkpoint_bytes"] == (place.model / "model.safetensors").stat().st_size
    assert found["adapter_disk_bytes"] == sum(resident["disk_bytes"] for resident in residents.values())
    assert 0 < found["adapter_bytes"] < found["base_bytes"]
    assert [timed["variant"] for timed in found["passes"]][::3] == ["base", "mixed batch"]
    assert all(len(timed["seconds"]) == 5 and timed["median_s"] > 0 for timed in found["passes"])
    assert 0 < found["agreement"]["merged"] < 1e-4 and 0 <= found["agreement"]["mixed"] < 1e-4
    assert found["switching"]["use_s"] < found["switching"]["merge_s"] + found["switching"]["unmerge_s"]


def test_what_goes_into_the_bank_can_be_chosen(
    classifiers: tuple[Workplace, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place, output = classifiers
    for choice, count in ((["targets=vq,q"], 2), (["runs=all", "limit=3"], 3)):
        assert bank(place, output, STUDY, "rounds=5", "batch=2", *choice) == 0
        shown = capsys.readouterr().out
        assert f"; {count} adapters; " in shown and f"Answers of all {count} agree" in shown
        assert "mixed batch, 2 adapters" in shown


def test_an_imported_head_pools_as_its_own_file_says(
    classifiers: tuple[Workplace, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, output = classifiers
    name, _ = run_of(output, "qv")
    folder = tmp_path / "theirs"
    assert bank(place, output, STUDY, f"export={name}", f"to={folder}") == 0
    spec = place.spec()
    assert imported(folder, spec, ()).pooling == "mean"
    (folder / "head.json").write_text('{"pooling": "last"}')
    assert imported(folder, spec, ()).pooling == "last"
    (folder / "head.json").unlink()
    assert imported(folder, dataclasses.replace(spec, model=ModelSpec("x", pooling="first")), ()).pooling == "first"
    (folder / "head.json").write_text("{}")
    assert bank(place, output, STUDY, "rounds=5", f"import={folder}") == 1
    assert "head.json cannot be read" in capsys.readouterr().err


def test_a_study_of_pictures_shows_the_shape_of_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, output = pictures_study(tmp_path)
    assert bank(place, output, STUDY, "rounds=5", "batch=3", "length=7") == 0
    assert "3 x 3 x 8 x 8" in capsys.readouterr().out
    (found,) = json.loads((output / STUDY / "bank.json").read_text())["bases"]
    assert found["shape"] == [3, 3, 8, 8] and found["num_mixed"] == 0


def test_what_cannot_be_mixed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = build(tmp_path)
    model = AutoModel.from_config(CASES["deberta-v2"].config)
    model.save_pretrained(place.model)
    output = train(place, [place.spec("q", **SHORT), place.spec("v", **SHORT)])
    assert bank(place, output, STUDY, "rounds=5", "batch=4") == 0
    shown = capsys.readouterr().out
    assert "A batch cannot mix" in shown and "No mixed batch was timed." in shown and "mixed with alone" not in shown
    (found,) = json.loads((output / STUDY / "bank.json").read_text())["bases"]
    assert found["agreement"]["mixed"] is None and found["num_mixed"] == 0
    assert "mixed batch" not in [timed["variant"] for timed in found["passes"]]


def test_each_base_of_a_study_has_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    places = [build(tmp_path / "a"), build(tmp_path / "b", "roberta")]
    specs = [place.spec("qv", max_steps=2, eval_every=2) for place in places]
    assert run_study(specs, places[0].settings(tmp_path / "out")).num_failed == 0
    assert bank(places[0], tmp_path / "out", STUDY, "rounds=5", "batch=2") == 0
    assert capsys.readouterr().out.count("1 adapters; float32") == 2
    assert len(json.loads((tmp_path / "out" / STUDY / "bank.json").read_text())["bases"]) == 2
    assert bank(places[0], tmp_path / "out", STUDY, f"import={tmp_path}") == 2
    assert "nothing for a study of 2 bases" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "study is not set; allowed: the name of one study"),
        (["nowhere"], 1, "No study 'nowhere' in {output}; there are: tiny. Another folder takes output_dir=<folder>."),
        ([STUDY, "nope=1"], 2, "option is 'nope=1'; allowed: <key>=<value> with one of runs, format"),
        ([STUDY, "--limit"], 2, "option is '--limit'; allowed: <key>=<value>"),
        ([STUDY, "runs=some"], 2, "runs is 'some'; allowed: best, all."),
        ([STUDY, "rounds=4"], 2, "rounds is '4'; allowed: a whole number of at least 5."),
        ([STUDY, "targets=x"], 2, "targets is 'x'; allowed: letters"),
        ([STUDY, "targets=v"], 1, "has no LoRA adapters to serve with targets v; there are k, q, qkvo, qv."),
        ([STUDY, "length=67"], 2, "length is 67; allowed: at most 66, the model's positions."),
        ([STUDY, "import=/nowhere/x"], 1, "/nowhere/x holds no adapter that can be read"),
        ([STUDY, "export=qv-r2"], 2, "to is not set; allowed: export=<run_id> and to=<new folder> go together"),
        ([STUDY, "export=r2", "to={output}/x"], 1, "4 completed runs of study 'tiny' have 'r2' in their id:"),
        ([STUDY, "export=r77", "to={output}/x"], 1, "No completed run of study 'tiny' has 'r77' in its id; there are"),
        (
            [STUDY, "export=none", "to={output}/x"],
            2,
            "format is 'peft'; allowed: merged; this run is of method the head",
        ),
    ],
)
def test_wrong_questions_are_one_sentence(
    classifiers: tuple[Workplace, Path],
    arguments: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, output = classifiers
    assert bank(place, output, *(argument.format(output=output) for argument in arguments)) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said.format(output=output) in error
    assert not (output / "x").exists()


def test_a_study_whose_adapters_are_gone_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record(make_spec())
    save(tmp_path, "a", record)
    place = Workplace(tmp_path, tmp_path, tmp_path)
    assert bank(place, tmp_path, "a") == 1
    assert "trained other methods, or their adapter folders are gone" in capsys.readouterr().err
    assert bank(place, tmp_path, "a", f"export={record.run_id}", f"to={tmp_path / 'x'}") == 1
    assert "adapter_config.json is missing; run the cell again with rerun=true" in capsys.readouterr().err


def test_help_tells_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["--help"]) == 0
    assert "python -m src.bank" in capsys.readouterr().out
