"""Model folders from elsewhere: code, pickles, weights that lead out, and configs of absurd models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.assets.catalogue import ASSETS
from src.models.loading import load_base, load_image_processor, load_tokenizer, outline
from src.spec import ModelSpec
from tests.hostile.payloads import BROKEN_SAFETENSORS, module_of, pickled, torch_pickle
from tests.hostile.watch import Watch, refused
from tests.tiny_files import save_model

AUTO_MAP = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
# What config.json is changed to.
CONFIGS: dict[str, dict[str, Any]] = {
    "unknown type with code": {"model_type": "evil", "auto_map": AUTO_MAP},
    "no type with code": {"model_type": None, "auto_map": AUTO_MAP},
    "code of a hub": {"model_type": "evil", "auto_map": {"AutoConfig": "evil/evil--evil.Evil"}},
    "code by path": {"model_type": "evil", "auto_map": {"AutoConfig": "../../evil.Evil"}},
    "name of elsewhere": {"model_type": "evil", "_name_or_path": "../evil", "auto_map": AUTO_MAP},
    "kernel of a hub": {"attn_implementation": "evil/kernel"},
    "old name of the kernel": {"_attn_implementation": "evil/kernel@main:run"},
    "experts' kernel": {"experts_implementation": "evil/kernel"},
    "10**9 layers": {"num_hidden_layers": 10**9},
    "10**400 layers": {"num_hidden_layers": 10**400},
    "negative layers": {"num_hidden_layers": -(10**12)},
    "layers as text": {"num_hidden_layers": "os.system('x')"},
    "10**9 labels": {"num_labels": 10**9},
    "vocabulary of 10**15": {"vocab_size": 10**15},
    "vocabulary of 10**9": {"vocab_size": 10**9},
    "negative vocabulary": {"vocab_size": -5},
    "width of 10**12": {"hidden_size": 10**12},
    "width of 2**20": {"hidden_size": 2**20},
    "width NaN": {"hidden_size": float("nan")},
    "width a list": {"hidden_size": [16]},
    "no heads": {"num_attention_heads": 0},
    "10**6 heads": {"num_attention_heads": 10**6},
    "positions of 10**15": {"max_position_embeddings": 10**15},
    "activation by name": {"hidden_act": "os.system"},
    "type of numbers": {"dtype": "os.system"},
    "pickled weights by name": {"transformers_weights": "evil.bin"},
    "weights elsewhere": {"transformers_weights": "../../evil.safetensors"},
    "quantised as bitsandbytes": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    "quantised as gptq": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
}
TEXTS = {
    "config no JSON": b"import os",
    "config empty": b"",
    "config a list": b"[]",
    "config deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "config huge": b'{"a": "' + b"x" * 6_000_000 + b'"}',
    "config binary": b"\x80\x04\x95\0",
}
# Files in place of model.safetensors.
WEIGHTS = ("pytorch_model.bin", "model.bin", "pytorch_model.pt", "model.pkl", "pytorch_model.bin.index.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(model: Path, watch: Watch) -> Path:
    """A copy of a good model, to be spoilt; its code makes the canary."""
    shutil.copytree(model, watch.folder, dirs_exist_ok=True)
    module_of(watch)
    return watch.folder


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def look(folder: Path) -> None:
    """What a run does with a model: its outline first, then its weights."""
    spec, cache = ModelSpec(str(folder)), folder.parent / "cache"
    outline.cache_clear()
    outline(spec, "classification", cache)
    load(folder)


def load(folder: Path) -> None:
    cpu, cache = torch.device("cpu"), folder.parent / "cache"
    spec = ModelSpec(str(folder))
    load_base(spec, "classification", cache, device=cpu, dtype=torch.float32, attention="sdpa")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_is_refused(name: str, folder: Path, watch: Watch) -> None:
    (folder / "evil.bin").write_bytes(torch_pickle(watch))
    change(folder / "config.json", **CONFIGS[name])
    assert str(folder) in refused(watch, lambda: look(folder), 1)


@pytest.mark.parametrize(
    "values",
    [
        {"quantization_config": {"quant_method": "evil", "auto_map": AUTO_MAP}},
        {"auto_map": AUTO_MAP},
        {"auto_map": {"AutoModel": "evil/evil--evil.Evil"}, "_name_or_path": "evil/evil"},
        {"architectures": ["evil.Evil"], "custom_pipelines": {"x": {"impl": "evil.Evil"}}},
        {"attn_implementation": "flash_attention_2"},
    ],
    ids=str,
)
def test_code_beside_a_model_that_is_known_is_not_run(values: dict[str, Any], folder: Path, watch: Watch) -> None:
    change(folder / "config.json", **values)
    with watch.on():
        look(folder)
    watch.check()


@pytest.mark.parametrize("name", TEXTS)
def test_a_config_that_is_no_json_object_is_refused(name: str, folder: Path, watch: Watch) -> None:
    (folder / "config.json").write_bytes(TEXTS[name])
    refused(watch, lambda: look(folder), 1)


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_broken_or_pickled_weights_are_refused(name: str, folder: Path, watch: Watch) -> None:
    (folder / "model.safetensors").write_bytes(BROKEN_SAFETENSORS[name](watch))
    refused(watch, lambda: load(folder), 1)


@pytest.mark.parametrize("content", [pickled, torch_pickle], ids=["pickle", "torch"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_pickles_are_not_read(name: str, content: Callable[[Watch], bytes], folder: Path, watch: Watch) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content(watch))
    refused(watch, lambda: load(folder), 1)


@pytest.mark.parametrize("file", ["evil.bin", "../evil.safetensors", "/etc/passwd", "a/b.safetensors", ""])
def test_an_index_that_leads_elsewhere_is_refused(file: str, folder: Path, watch: Watch) -> None:
    (folder / "model.safetensors").rename(folder.parent / "evil.safetensors")
    (folder / "evil.bin").write_bytes(torch_pickle(watch))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": file}, "metadata": {}}))
    assert "index" in refused(watch, lambda: look(folder), 1)


def test_an_adapter_in_a_model_folder_is_refused(folder: Path, watch: Watch) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "evil/x"}))
    (folder / "adapter_model.bin").write_bytes(torch_pickle(watch))
    assert "adapter" in refused(watch, lambda: look(folder), 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}},
        {"tokenizer_class": "os.system"},
        {"tokenizer_class": "EvilTokenizer"},
        {"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}},
        {"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
        {"chat_template": "{% for x in range(10**12) %}x{% endfor %}"},
        {"model_max_length": "os.system"},
        {"tokenizer_file": "/etc/passwd"},
        {"added_tokens_decoder": {"x": {"content": "y"}}},
    ],
    ids=str,
)
def test_a_hostile_tokenizer_config_is_refused_or_harmless(changes: dict[str, Any], folder: Path, watch: Watch) -> None:
    change(folder / "tokenizer_config.json", **changes)
    with watch.on():
        try:
            tokenizer = load_tokenizer(ModelSpec(str(folder)), folder.parent / "cache")
            assert tokenizer("w5 w6", verbose=False)["input_ids"]
        except Exception as error:
            assert "could not be loaded" in str(error)
    watch.check()


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{" * 100_000, b'{"model": {"type": "evil"}}', b"\0\1", b'{"version": "9" , "model": null}']
)
def test_a_broken_tokenizer_is_refused(text: bytes, folder: Path, watch: Watch) -> None:
    (folder / "tokenizer.json").write_bytes(text)
    refused(watch, lambda: load_tokenizer(ModelSpec(str(folder)), folder.parent / "cache"), 1)


@pytest.mark.parametrize(
    "content",
    [
        {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.Evil"}},
        {"image_processor_type": "os.system"},
        {"auto_map": {"AutoImageProcessor": "evil.Evil"}},
        {"feature_extractor_type": "Evil", "auto_map": {"AutoFeatureExtractor": "evil.Evil"}},
    ],
    ids=str,
)
def test_a_hostile_image_processor_is_refused(content: dict[str, Any], folder: Path, watch: Watch) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    refused(watch, lambda: load_image_processor(ModelSpec(str(folder)), folder.parent / "cache"), 1)


@pytest.mark.parametrize("content", ["cut", "absurd", "pickle", "empty", "version"])
def test_a_tampered_gguf_is_refused(content: str, watch: Watch, tmp_path: Path) -> None:
    absurd = b"GGUF" + (3).to_bytes(4, "little") + (2**60).to_bytes(8, "little") * 2
    texts = {
        "cut": b"GGUF\3\0\0\0",
        "absurd": absurd,
        "pickle": pickled(watch),
        "empty": b"",
        "version": b"GGUF" + b"\xff" * 40,
    }
    folder = watch.folder.parent / "assets" / ASSETS["smollm2"].folder
    folder.mkdir(parents=True)
    (folder / "x.gguf").write_bytes(texts[content])
    spec = ModelSpec("asset:smollm2")
    assert "x.gguf" in refused(watch, lambda: outline(spec, "causal_lm", watch.folder.parent), 1)
    assert not (watch.folder.parent / "converted" / ASSETS["smollm2"].folder).exists()


@pytest.mark.parametrize(
    "path",
    ["../../x", "/nowhere/x", "a/b/c", "~nobody/x", "hub\0id/x", "x" * 3000, "/" + "x/" * 2000, "a/b;touch x", "."],
)
def test_paths_of_no_model_are_refused(path: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(watch.folder)
    refused(watch, lambda: outline(ModelSpec(path), "classification", watch.folder.parent), 1)
