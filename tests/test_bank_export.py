"""Runs that leave the harness: others load them and compute the same."""

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

from src.adapters.peft_import import from_peft, read_peft
from src.data import collate
from src.experiment.resources import Resources
from src.models.bank import AdapterBank, read_head
from src.models.hardware import choose_attention
from src.models.loading import load_base
from src.records import RunPaths, StudyPaths, read_study
from src.spec import MethodSpec, RunSpec, TaskKind, normalise
from tests.bank_place import SHORT, bank, classifying_study, run_of, train
from tests.experiment.workplace import STUDY, Workplace, build, snapshot
from tests.tiny import token_ids

FUSED = ("q", "v", "qv", "qk", "qkvo")


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    return classifying_study(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    """A study on GPT-2, whose q, k and v are one weight; the last run is DoRA's."""
    place = build(tmp_path_factory.mktemp("place"), "gpt2", "causal_lm")
    config = place.model / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_cache": True}))
    specs = [place.spec(targets, **SHORT) for targets in FUSED]
    return place, train(place, [*specs, place.spec("kv", dora=True, **SHORT)])


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    """A study of methods that train something else than LoRA."""
    place = build(tmp_path_factory.mktemp("place"), kind="regression")
    methods = [MethodSpec("full"), MethodSpec("bitfit"), MethodSpec("random_subspace", 20), MethodSpec("prefix", 2)]
    plain = place.spec("none", **SHORT)
    return place, train(place, [normalise(dataclasses.replace(plain, method=method)) for method in methods])


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


def test_bfloat16_is_rounded_to_once(classifiers: tuple[Workplace, Path], tmp_path: Path) -> None:
    place, output = classifiers
    name, run = run_of(output, "qv")
    assert bank(place, output, STUDY, f"export={name}", f"to={tmp_path / 'm'}", "format=merged", "dtype=bfloat16") == 0
    exported, base = load_file(tmp_path / "m" / "model.safetensors"), load_file(place.model / "model.safetensors")
    spec = place.spec()
    cpu = torch.device("cpu")
    own = load_base(spec.model, "classification", place.cache, device=cpu, dtype=torch.float32, attention="sdpa")
    adapters = from_peft(own.projections, read_peft(run.adapter)).adapters
    modules = {p.module: adapters[p.key] for p in own.projections if p.key in adapters}
    assert len(modules) == 4 and exported.keys() == base.keys()
    for key, weight in base.items():
        module = key.removesuffix(".weight")
        wanted = modules[module].adapted(weight) if module in modules else weight
        assert exported[key].dtype == torch.bfloat16 and torch.equal(exported[key], wanted.bfloat16())
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "bfloat16"


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
        ("prefix", "merged", "format is 'merged'; allowed: only runs of method lora, head, full, bitfit"),
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
