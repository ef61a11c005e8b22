"""The command, from a study or from adapters that peft saved."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest

from src.analyze import main
from src.experiment.study import run_study
from src.records import StudyPaths, read_analysis
from tests.experiment.workplace import STUDY, Workplace, build
from tests.record_factory import make_record, make_spec, save
from tests.tiny import tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


def run(place: Workplace, output: Path, *arguments: str) -> int:
    return main([*arguments, "--output-dir", str(output), "--cache-dir", str(place.cache)])


def elsewhere(place: Workplace, folder: Path, rank: int = 3) -> Path:
    """An adapter that the real peft saved, with a classifier beside it."""
    config = peft.LoraConfig(r=rank, target_modules=["query", "value"], init_lora_weights=False, use_rslora=True)
    model = peft.get_peft_model(tiny("bert").float(), config)
    model.peft_config["default"].base_model_name_or_path = str(place.model)
    model.save_pretrained(folder)
    return folder


def test_a_study_from_training_to_tables(place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specs = [place.spec("qv", rank, max_steps=4, eval_every=4) for rank in (1, 2)]
    assert run_study(specs, place.settings(tmp_path)).num_failed == 0
    capsys.readouterr()
    assert run(place, tmp_path, STUDY, "--truncation", "6") == 0
    out = capsys.readouterr().out
    assert f"{STUDY}: 9 tables in {tmp_path / STUDY / 'analysis'}" in out
    assert "  amplification: 8 rows" in out
    assert len(read_analysis(StudyPaths.of(tmp_path, STUDY).analysis)) == 9


def test_adapters_from_elsewhere_with_the_base_that_they_name(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(elsewhere(place, tmp_path / name, rank)) for name, rank in (("a", 3), ("b", 5))]
    assert run(place, tmp_path, "--adapters", *folders, "--name", "theirs") == 0
    tables = read_analysis(tmp_path / "theirs" / "analysis")
    assert len(tables) == 7
    assert set(tables["size"].columns["run"]) == set(folders)
    assert {row["kind"] for row in tables["subspace"].rows()} == {"ranks", "base", "matrices"}
    assert "theirs: 7 tables" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["nowhere"], (1, "No study 'nowhere' in {output}; there are: a. Another folder takes --output-dir <folder>.")),
        (["a"], (1, "No adapter of study 'a' can be analysed")),
        (["a", "--truncation", "-1"], (2, "--truncation is -1; allowed: 0")),
        (["a", "--device", "cuda:77"], (2, "device is 'cuda:77'")),
        (["--adapters", "{output}/nothing"], (1, "holds no adapter that can be read")),
    ],
)
def test_wrong_arguments_are_one_sentence(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], answer: tuple[int, str]
) -> None:
    """Study `a` has records whose adapters are missing."""
    save(tmp_path, "a", make_record(make_spec(model__path=str(place.model))))
    assert run(place, tmp_path, *(argument.format(output=tmp_path) for argument in arguments)) == answer[0]
    error = capsys.readouterr().err
    assert answer[1].format(output=tmp_path) in error
    assert "Traceback" not in error
    assert not (tmp_path / "a" / "analysis").exists()


def test_an_unknown_study_does_not_keep_the_others_from_being_analysed(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = elsewhere(place, tmp_path / "peft")
    assert run(place, tmp_path, "nowhere", "--adapters", str(folder)) == 1
    output = capsys.readouterr()
    assert "No study 'nowhere'" in output.err and "adapters: 7 tables" in output.out


def test_adapters_that_name_no_base_need_one(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = elsewhere(place, tmp_path / "peft")
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace(str(place.model), ""))
    assert run(place, tmp_path, "--adapters", str(folder)) == 2
    assert "--base is not set; allowed: the one base model" in capsys.readouterr().err
    assert run(place, tmp_path, "--adapters", str(folder), "--base", str(place.model)) == 0


def test_nothing_named_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "name a study" in capsys.readouterr().err
