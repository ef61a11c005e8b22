"""Models from folders, as transformers saves them; and what is said when one cannot be loaded."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers
from transformers import AlbertConfig, AlbertModel

from src.errors import ConfigError, HarnessError
from src.models.loading import (
    Base,
    check_length,
    freeze,
    load_base,
    load_tokenizer,
    local_source,
    max_positions,
    outline,
)
from src.spec import FrozenMap, ModelSpec, TaskKind
from tests.tiny import CONFIGS, tiny, tiny_base, token_ids
from tests.tiny_architectures import CASES
from tests.tiny_files import save_model, word_tokenizer

CPU = torch.device("cpu")
DECODERS = sorted(CONFIGS.keys() - {"bert", "roberta"})
KINDS: list[Any] = [(name, "classification") for name in CONFIGS] + [(name, "causal_lm") for name in DECODERS]
LOADERS: dict[str, Callable[[ModelSpec, Path], Any]] = {
    "base": lambda spec, cache: base_of(spec, "classification", cache),
    "tokenizer": load_tokenizer,
    "outline": lambda spec, cache: outline(spec, "classification", cache),
}


def base_of(spec: ModelSpec, kind: TaskKind, cache: Path, dtype: torch.dtype = torch.float32) -> Base:
    return load_base(spec, kind, cache, device=CPU, dtype=dtype, attention="sdpa")


@pytest.mark.parametrize(("model_type", "kind"), KINDS)
def test_a_saved_model_is_loaded_as_it_was_frozen_and_without_dropout(
    tmp_path: Path, model_type: str, kind: TaskKind
) -> None:
    save_model(tmp_path, model_type, causal_lm=kind == "causal_lm")
    base = base_of(ModelSpec(str(tmp_path)), kind, tmp_path)
    saved = tiny(model_type, causal_lm=kind == "causal_lm").to(torch.float32)
    assert {name: p.tolist() for name, p in base.model.named_parameters()} == {
        name: p.tolist() for name, p in saved.named_parameters()
    }
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not any(module.training for module in base.model.modules())
    assert base.model.get_submodule(base.prefix.removesuffix(".")) is base.backbone
    ids = token_ids(2, 6)
    assert torch.equal(base.model(input_ids=ids)[0], base.model(input_ids=ids)[0])
    assert (base.output is None) == (kind != "causal_lm")
    assert base.hidden_size == 16
    assert base.source == str(tmp_path)


@pytest.mark.parametrize(("model_type", "kind"), KINDS)
def test_an_outline_has_the_shapes_and_counts_of_the_model_and_no_weights(
    tmp_path: Path, model_type: str, kind: TaskKind
) -> None:
    save_model(tmp_path, model_type, causal_lm=kind == "causal_lm")
    spec = ModelSpec(str(tmp_path))
    drawn, loaded = outline(spec, kind, tmp_path), base_of(spec, kind, tmp_path)
    for name in ("projections", "num_parameters", "hidden_size", "prefix", "source"):
        assert getattr(drawn, name) == getattr(loaded, name)
    assert drawn.num_parameters == sum(p.numel() for p in tiny(model_type, causal_lm=kind == "causal_lm").parameters())
    assert all(p.device.type == "meta" for p in drawn.model.parameters())


def test_an_outline_reads_only_the_config(tmp_path: Path) -> None:
    CONFIGS["gpt2"].save_pretrained(tmp_path)
    assert len(outline(ModelSpec(str(tmp_path)), "causal_lm", tmp_path).projections) == 12


def test_a_tokenizer_is_loaded_as_it_was(tmp_path: Path) -> None:
    save_model(tmp_path)
    tokenizer = load_tokenizer(ModelSpec(str(tmp_path)), tmp_path)
    assert tokenizer("w5 w99 what", "w7") == word_tokenizer()("w5 w99 what", "w7")
    assert tokenizer("w5 what", "w7")["input_ids"] == [2, 5, 0, 3, 7, 3]


def test_folders_may_be_relative_or_under_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("mine", "./mine", "~/mine", str(tmp_path / "mine")):
        assert local_source(ModelSpec(path), tmp_path) == str(tmp_path / "mine")
    assert local_source(ModelSpec("some/model"), tmp_path) == "some/model"


def empty(folder: Path) -> None:
    folder.mkdir()


def panicking_tokenizer(folder: Path) -> None:
    """What tokenizers, in Rust, cannot parse; it panics, which is no Exception."""
    save_model(folder)
    values = json.loads((folder / "tokenizer.json").read_text())
    values["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (folder / "tokenizer.json").write_text(json.dumps(values))


def without_weights(folder: Path) -> None:
    CONFIGS["bert"].save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)


def broken_config(folder: Path) -> None:
    save_model(folder)
    (folder / "config.json").write_text("{")


def broken_weights(folder: Path) -> None:
    save_model(folder)
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)


def other_weights(folder: Path) -> None:
    """What a mixed-up folder holds: another architecture's weights, all of which would be drawn at random."""
    save_model(folder, "gpt2")
    CONFIGS["bert"].save_pretrained(folder)


def other_size(folder: Path) -> None:
    save_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))


def without_tokenizer(folder: Path) -> None:
    """transformers would make a tokenizer to which every word is unknown."""
    tiny("bert").save_pretrained(folder)


BROKEN: list[tuple[Callable[[Path], None], tuple[str, ...], str]] = [
    (lambda folder: None, ("base", "tokenizer", "outline"), "there is no folder"),
    (empty, ("base", "tokenizer", "outline"), "could not be loaded"),
    (without_weights, ("base",), "no file named model.safetensors"),
    (broken_config, ("base", "tokenizer", "outline"), "not a valid JSON file"),
    (broken_weights, ("base",), "could not be loaded"),
    (other_weights, ("base",), r"lack 37 of its weights, such as embeddings\.LayerNorm"),
    (other_size, ("base",), "could not be loaded"),
    (without_tokenizer, ("tokenizer",), "it has no tokenizer"),
    (panicking_tokenizer, ("tokenizer",), "could not be loaded: Precompiled"),
]


def one_paragraph(message: str) -> bool:
    return "\n" not in message and "  " not in message and message.endswith(".") and len(message) < 700


@pytest.mark.parametrize(
    ("spoil", "loader", "words"),
    [
        pytest.param(spoil, loader, words, id=f"{words}-{loader}")
        for spoil, loaders, words in BROKEN
        for loader in loaders
    ],
)
def test_a_folder_that_cannot_be_used_is_one_clear_paragraph(
    tmp_path: Path, spoil: Callable[[Path], None], loader: str, words: str
) -> None:
    folder = tmp_path / "model"
    spoil(folder)
    with pytest.raises(HarnessError) as caught:
        LOADERS[loader](ModelSpec(str(folder)), tmp_path)
    assert caught.value.exit_code == 1
    assert one_paragraph(str(caught.value))
    assert re.search(words, str(caught.value))


def test_an_unknown_architecture_takes_its_projections_from_the_config(tmp_path: Path) -> None:
    config = AlbertConfig(
        vocab_size=100,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
    )
    AlbertModel(config).save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match=r"'albert' has no projection table.*\n  encoder\.embedding_hidden_mapping_in"
    ) as caught:
        outline(ModelSpec(str(tmp_path)), "classification", tmp_path)
    assert caught.value.exit_code == 2
    named = FrozenMap({"q": "encoder.albert_layer_groups.{i}.albert_layers.0.attention.query"})
    spec = ModelSpec(str(tmp_path), projections=named)
    (drawn,) = outline(spec, "classification", tmp_path).projections
    (loaded,) = base_of(spec, "classification", tmp_path).projections
    assert drawn == loaded and (drawn.letter, drawn.d_in, drawn.d_out) == ("q", 16, 16)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "cross" not in case.stacks])
def test_hidden_size_is_the_width_of_what_the_backbone_returns(name: str) -> None:
    case = CASES[name]
    base = freeze(case.build(), "classification", "tiny")
    assert case(base.backbone).shape[-1] == base.hidden_size


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("path", ["nobody/no-such-model", "gpt2", "no model"])
def test_a_hub_model_without_a_network_is_one_clear_paragraph(loader: str, path: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=rf"The model '{path}' could not be loaded: .* a hub id that this") as caught:
        LOADERS[loader](ModelSpec(path), tmp_path)
    assert one_paragraph(str(caught.value))


def test_an_unknown_asset_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"asset:nope.*allowed: .*minilm"):
        local_source(ModelSpec("asset:nope"), tmp_path)


@pytest.mark.assets("r52")
def test_an_asset_of_data_is_no_model(cache_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.path is 'asset:r52'; allowed: an asset that holds a model"):
        local_source(ModelSpec("asset:r52"), cache_dir)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "electra", "deberta-v2", "distilbert"])
def test_an_encoder_is_not_taken_for_a_language_model(tmp_path: Path, model_type: str) -> None:
    CASES[model_type].config.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=rf"task.kind is 'causal_lm'; allowed: .* with the {model_type} model"):
        outline(ModelSpec(str(tmp_path)), "causal_lm", tmp_path)


def test_a_pooler_may_be_missing_as_it_is_not_used(tmp_path: Path) -> None:
    save_model(tmp_path, "roberta", causal_lm=True)
    base = base_of(ModelSpec(str(tmp_path)), "classification", tmp_path)
    assert len(base.projections) == 12


@pytest.mark.parametrize(("model_type", "limit"), [("bert", 66), ("gpt2", 66), ("llama", 66), ("roberta", 64)])
def test_max_positions_are_those_that_the_model_can_really_take(model_type: str, limit: int) -> None:
    base = tiny_base(model_type)
    assert max_positions(base) == limit
    base.model(input_ids=token_ids(1, limit))
    check_length(base, limit)
    with pytest.raises(ConfigError, match=f"task.max_length is {limit + 1}; allowed: at most {limit}"):
        check_length(base, limit + 1)
    if model_type != "llama":  # rotary positions have no table that ends
        with pytest.raises((IndexError, RuntimeError)):
            base.model(input_ids=token_ids(1, limit + 1))


def test_loading_is_quiet_and_gives_transformers_its_voice_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path, "roberta", causal_lm=True)
    capfd.readouterr()
    verbosity = transformers.logging.get_verbosity()
    base_of(ModelSpec(str(tmp_path)), "classification", tmp_path)
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == verbosity


# What llama.cpp calls some weights that it stores as they are (W_q and W_k it permutes).
IN_GGUF = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
    "model.layers.29.mlp.down_proj.weight": "blk.29.ffn_down.weight",
    "model.layers.29.mlp.gate_proj.weight": "blk.29.ffn_gate.weight",
    "model.norm.weight": "output_norm.weight",
}


@pytest.mark.assets("smollm2")
def test_a_gguf_file_is_converted_once_and_keeps_its_weights(
    tmp_path: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Against the gguf package's own reading of the file, and by what only a whole model knows."""
    (tmp_path / "assets").symlink_to(cache_dir / "assets")
    spec = ModelSpec("asset:smollm2")
    with caplog.at_level(logging.INFO, logger="src"):
        source = local_source(spec, tmp_path)
        assert local_source(spec, tmp_path) == source
    assert caplog.text.count("Converting") == 1
    base = base_of(spec, "causal_lm", tmp_path)
    assert base.num_parameters == outline(spec, "causal_lm", tmp_path).num_parameters == 134_515_008
    (file,) = (cache_dir / "assets").glob("smollm2*/*.gguf")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    for name, theirs in IN_GGUF.items():
        weight = torch.tensor(gguf.dequantize(stored[theirs].data, stored[theirs].tensor_type))
        assert torch.equal(base.model.get_parameter(name), weight)
    tokenizer = load_tokenizer(spec, tmp_path)
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert tokenizer.decode(base.model(input_ids=ids).logits[0, -1].argmax()) == " Paris"
