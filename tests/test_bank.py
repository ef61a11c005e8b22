"""`python -m src.bank` as a person meets it: a study's adapters over one base, and runs that leave the harness."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from src.bank import cli
from src.data import collate
from src.experiment.resources import Resources
from src.experiment.study import run_study
from src.models.bank import AdapterBank
from src.models.hardware import choose_attention
from src.models.loading import load_base
from src.models.task_head import read_head
from src.records import RunPaths, StudyPaths, read_study
from src.spec import MethodSpec, RunSpec, TaskKind, normalise
from tests.experiment.workplace import STUDY, Workplace, build, snapshot
from tests.record_factory import make_record, make_spec, save
from tests.tiny import tiny, token_ids

SHORT: dict[str, Any] = {"max_steps": 4, "eval_every": 4, "lr": 0.1}
KINDS: dict[str, dict[str, Any]] = {
    "qv": {}, "qkvo": {"rslora": True, "b_lr_ratio": 4.0}, "q": {"dora": True}, "k": {"init": "pissa"}, "none": {},
}  # fmt: skip
FUSED = ("q", "v", "qv", "qk", "qkvo")


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    """A study with LoRA in all its kinds, and the head alone."""
    place = build(tmp_path_factory.mktemp("place"))
    return place, train(place, [place.spec(targets, **kind, **SHORT) for targets, kind in KINDS.items()])


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    """A study on GPT-2, whose q, k and v are one weight; the last run is DoRA's."""
    place = build(tmp_path_factory.mktemp("place"), "gpt2", "causal_lm")
    config = place.model / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_cache": True}))
    specs = [place.spec(targets, **SHORT) for targets in FUSED]
    return place, train(place, [*specs, place.spec("kv", dora=True, **SHORT)])


def train(place: Workplace, specs: list[Any]) -> Path:
    output = place.data.parent / "out"
    assert run_study(specs, place.settings(output)).num_failed == 0
    return output


def bank(place: Workplace, output: Path, *arguments: str) -> int:
    return cli([f"output_dir={output}", f"cache_dir={place.cache}", "device=cpu", *arguments])


def run_of(output: Path, targets: str) -> tuple[str, RunPaths]:
    paths = StudyPaths.of(output, STUDY)
    (found,) = (r.run_id for r in read_study(paths).records if r.run_spec().lora.targets == targets)
    return found, paths.run(found)


def method_run(output: Path, method: str) -> tuple[str, RunPaths, RunSpec]:
    paths = StudyPaths.of(output, STUDY)
    (found,) = (r for r in read_study(paths).records if r.run_spec().method.name == method)
    return found.run_id, paths.run(found.run_id), found.run_spec()


def inputs() -> dict[str, Tensor]:
    mask = torch.ones(3, 8, dtype=torch.int64)
    mask[1, 5:] = 0
    return {"input_ids": token_ids(3, 8), "attention_mask": mask}


@torch.no_grad()
def answers(place: Workplace, run: RunPaths, kind: TaskKind) -> Tensor:
    """Of the run in the harness: logits of every token, or of the head."""
    cpu, model = torch.device("cpu"), place.spec().model
    attention = choose_attention(cpu, torch.float32, 16)
    base = load_base(model, kind, place.cache, device=cpu, dtype=torch.float32, attention=attention)
    own = AdapterBank(base)
    own.load("run", run.adapter, read_head(run.head) if run.head.is_file() else None)
    return torch.stack(own.forward(inputs(), ["run"] * 3))


@torch.no_grad()
def plain_answers(model: Any, folder: Path, given: dict[str, Tensor] | None = None) -> Tensor:
    """Of a model that others loaded, by the formula of the folder's README."""
    given = given or inputs()
    output = model.eval()(**given)
    if not (folder / "head.safetensors").is_file():
        return output.logits
    head, mask = load_file(folder / "head.safetensors"), given["attention_mask"].unsqueeze(-1)
    pooled = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
    return pooled @ head["head.weight"].T + head["head.bias"]


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
        "mixed batch",
        "in place",
        "Answers agree: merged",
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
        assert f"; {count} adapters; " in capsys.readouterr().out


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


@pytest.mark.parametrize("form", ["peft", "merged"])
@pytest.mark.parametrize("targets", [*FUSED, "kv"])
def test_a_language_model_leaves_and_says_the_same(
    writers: tuple[Workplace, Path], tmp_path: Path, targets: str, form: str
) -> None:
    place, output = writers
    name, run = run_of(output, targets)
    folder = tmp_path / "new" / "folder"
    assert bank(place, output, STUDY, f"export={name}", f"to={folder}", f"format={form}") == 0
    if form == "peft":
        plain = AutoModelForCausalLM.from_pretrained(place.model)
        untouched = plain_answers(plain, folder)
        model = peft.PeftModel.from_pretrained(plain, folder)
    else:
        untouched = plain_answers(AutoModelForCausalLM.from_pretrained(place.model), folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert AutoTokenizer.from_pretrained(folder)("w7 w8").input_ids == [7, 8]
        assert model.config.use_cache is True
    expected = answers(place, run, "causal_lm")
    torch.testing.assert_close(plain_answers(model, folder), expected, rtol=1e-5, atol=1e-5)
    assert (untouched - expected).abs().max() > 1e-3
    assert "AutoModelForCausalLM" in (folder / "README.md").read_text()


@pytest.mark.parametrize("targets", ["qv", "qkvo", "q", "k"])
def test_a_classifier_leaves_with_its_head_beside(
    classifiers: tuple[Workplace, Path], tmp_path: Path, targets: str
) -> None:
    place, output = classifiers
    name, run = run_of(output, targets)
    for form in ("peft", "merged"):
        assert bank(place, output, STUDY, f"export={name}", f"to={tmp_path / form}", f"format={form}") == 0
        head = json.loads((tmp_path / form / "head.json").read_text())
        assert head == {"kind": "classification", "pooling": "mean", "labels": ["blue", "green", "red"]}
    merged = AutoModel.from_pretrained(tmp_path / "merged")
    loaded = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(place.model), tmp_path / "peft")
    expected = answers(place, run, "classification")
    torch.testing.assert_close(plain_answers(merged, tmp_path / "merged"), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain_answers(loaded, tmp_path / "peft"), expected, rtol=1e-5, atol=1e-5)


def test_the_code_in_the_readme_runs(
    classifiers: tuple[Workplace, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, output = classifiers
    name, run = run_of(output, "qv")
    for form in ("peft", "merged"):
        assert bank(place, output, STUDY, f"export={name}", f"to={tmp_path / form}", f"format={form}") == 0
        readme = (tmp_path / form / "README.md").read_text()
        code = "\n".join(re.findall(r"^    (\S.*)$", readme.partition("What it was")[0], re.MULTILINE))
        batch = type("Inputs", (dict,), {"__getattr__": dict.__getitem__})(inputs())
        monkeypatch.chdir(tmp_path / form)
        found: dict[str, Any] = {"inputs": batch}
        exec(code, found)
        torch.testing.assert_close(found["logits"], answers(place, run, "classification"), rtol=1e-5, atol=1e-5)


def test_the_head_alone_leaves_with_the_base_as_it_was(classifiers: tuple[Workplace, Path], tmp_path: Path) -> None:
    place, output = classifiers
    name, _ = run_of(output, "none")
    assert bank(place, output, STUDY, f"export={name}", f"to={tmp_path / 'm'}", "format=merged", "dtype=float64") == 0
    exported, base = load_file(tmp_path / "m" / "model.safetensors"), load_file(place.model / "model.safetensors")
    assert exported.keys() == base.keys()
    assert all(torch.equal(exported[key], tensor.double()) for key, tensor in base.items())


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    """A study of methods that train something else than LoRA."""
    place = build(tmp_path_factory.mktemp("place"), kind="regression")
    methods = [MethodSpec("full"), MethodSpec("bitfit"), MethodSpec("random_subspace", 20), MethodSpec("prefix", 2)]
    plain = place.spec("none", **SHORT)
    return place, train(place, [normalise(dataclasses.replace(plain, method=method)) for method in methods])


@pytest.mark.parametrize("method", ["full", "bitfit", "random_subspace"])
def test_what_changes_the_weights_leaves_merged(others: tuple[Workplace, Path], tmp_path: Path, method: str) -> None:
    """The merged model gives the numbers that the run itself predicted for its test examples."""
    place, output = others
    name, run, spec = method_run(output, method)
    folder = tmp_path / "m"
    assert bank(place, output, STUDY, f"export={name}", f"to={folder}", "format=merged") == 0
    data = Resources("cpu", place.cache).data(spec)
    batch = collate(data.test, torch.arange(len(data.test)), data.pad_id)
    given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.token_type_ids is not None:
        given["token_type_ids"] = batch.token_type_ids
    mine, base = (plain_answers(AutoModel.from_pretrained(m), folder, given)[:, 0] for m in (folder, place.model))
    expected = load_file(run.predictions)["prediction"]
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
    assert (base - expected).abs().max() > 1e-3


def test_other_methods_say_where_they_can_go(
    others: tuple[Workplace, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, output = others
    for method, form, said in (
        ("prefix", "merged", "format is 'merged'; allowed: peft, or a run of method lora, head, full, bitfit"),
        ("prefix", "peft", "allowed: a run that trained nothing but LoRA adapters; this run is of method prefix"),
        ("full", "peft", "format is 'peft'; allowed: merged; this run is of method full"),
    ):
        name, _, _ = method_run(output, method)
        assert bank(place, output, STUDY, f"export={name}", f"to={tmp_path / 'x'}", f"format={form}") == 2
        assert said in capsys.readouterr().err
    assert bank(place, output, STUDY) == 1
    assert "its 4 completed runs trained other methods" in capsys.readouterr().err
    _, run, _ = method_run(output, "bitfit")
    run.method.write_bytes(b"damaged")
    assert bank(place, output, STUDY, "export=bitfit", f"to={tmp_path / 'x'}", "format=merged") == 1
    assert "method.safetensors cannot be merged" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_an_export_takes_nothing_s_place(
    classifiers: tuple[Workplace, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, output = classifiers
    name, _ = run_of(output, "qv")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    before = snapshot(tmp_path)
    assert bank(place, output, STUDY, f"export={name}", f"to={tmp_path / 'there'}") == 1
    assert "exists already and was left as it is; name a new folder" in capsys.readouterr().err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "study is nothing; allowed: the name of one study"),
        (["nowhere"], 1, "No study 'nowhere' in {output}; there are: tiny."),
        ([STUDY, "nope=1"], 2, "option is 'nope=1'; allowed: <key>=<value> with one of runs, format"),
        ([STUDY, "--limit"], 2, "option is '--limit'; allowed: <key>=<value>"),
        ([STUDY, "runs=some"], 2, "runs is 'some'; allowed: best, all."),
        ([STUDY, "rounds=4"], 2, "rounds is '4'; allowed: a whole number of at least 5."),
        ([STUDY, "targets=x"], 2, "targets is 'x'; allowed: letters"),
        ([STUDY, "targets=v"], 1, "has no LoRA adapters to serve with targets v; there are k, q, qkvo, qv."),
        ([STUDY, "length=67"], 2, "length is 67; allowed: at most 66, the model's positions."),
        ([STUDY, "import=/nowhere/x"], 1, "/nowhere/x holds no adapter that can be read"),
        ([STUDY, "export=qv-r2"], 2, "to is nothing; allowed: export=<run_id> and to=<new folder> go together"),
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
