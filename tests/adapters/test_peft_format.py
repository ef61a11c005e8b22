"""The real peft loads what we save, onto the plain base model, and computes the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from src.adapters.lowrank import LowRank
from src.adapters.peft_format import PeftAdapter, to_peft
from src.adapters.peft_import import from_peft, read_peft
from src.data import IGNORED, Batch, collate
from src.errors import HarnessError
from src.experiment.artifacts import save_lane
from src.models.adapted import AdaptedModel
from src.records import RunPaths
from src.spec import TaskKind
from tests.tiny import CONFIGS, shake, tiny, tiny_base, tiny_cell, tiny_data

DECODERS = sorted(CONFIGS.keys() - {"bert", "roberta"})
FUSED = ["q", "k", "qv", "kv", "qkv", "qkvo", "qvud", "all"]
CASES: list[Any] = [
    *((name, "classification", targets) for name in CONFIGS for targets in ("qv", "o", "all")),
    *((name, "causal_lm", targets) for name in DECODERS for targets in ("qv", "all")),
    *(("gpt2", kind, targets) for kind in ("classification", "causal_lm") for targets in FUSED),
    ("bert", "regression", "qkvo"),
]
# Tolerance of what peft loads, and of merged weights, whose rounding is another.
PRECISIONS = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-6, 5e-6)}


def make(model_type: str, kind: TaskKind, targets: str, dtype: torch.dtype) -> tuple[AdaptedModel, Batch]:
    """A pack of two lanes, of which the second has the targets; its batch."""
    base, data = tiny_base(model_type, kind, dtype), tiny_data(kind)
    cells = [{"targets": "q", "rank": 1}, {"targets": targets, "rank": 3, "alpha": 6.0, "dropout": 0.1}]
    model = AdaptedModel(base, [tiny_cell(data, base, **cell) for cell in cells], num_labels=data.num_labels, pad_id=1)
    shake(model)
    model.retain([1])
    return model, collate(data.train, torch.arange(6), 1)


def peft_logits(model: Any, run: RunPaths, batch: Batch, kind: TaskKind) -> Tensor:
    """What a person computes who has the plain model, the run's folder and this formula."""
    output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    if kind == "causal_lm":
        return output.logits[:, :-1][batch.labels[:, 1:] != IGNORED]
    head, mask = load_file(run.head), batch.attention_mask.unsqueeze(-1)
    pooled = (output.last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
    return pooled.to(head["head.weight"].dtype) @ head["head.weight"].T + head["head.bias"]


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize(("model_type", "kind", "targets"), CASES)
def test_peft_computes_the_same_logits(
    tmp_path: Path, model_type: str, kind: TaskKind, targets: str, dtype: torch.dtype
) -> None:
    ours, batch = make(model_type, kind, targets, dtype)
    run = RunPaths(tmp_path)
    save_lane(ours, 1, run, {})
    with torch.no_grad():
        mine = ours.forward([batch], training=False)[0].logits
        ours.merge()
        merged = ours.forward([batch], training=False)[0].logits
        plain = tiny(model_type, causal_lm=kind == "causal_lm").to(dtype)
        untouched = peft_logits(copy.deepcopy(plain), run, batch, kind)
        theirs = peft.PeftModel.from_pretrained(plain, run.adapter)
        loaded = peft_logits(theirs, run, batch, kind)
        folded = peft_logits(theirs.merge_and_unload(), run, batch, kind)
    close, merging = PRECISIONS[dtype]
    for other, tolerance in ((loaded, close), (merged, merging), (folded, merging)):
        torch.testing.assert_close(mine, other.to(mine.dtype), rtol=tolerance, atol=tolerance)
    assert (mine - untouched).abs().max() > 1e-4


@pytest.mark.parametrize(("targets", "ranks"), [("q", {3}), ("qv", {6}), ("qkv", {9}), ("qkvo", {9, 3})])
def test_a_fused_weight_gets_one_adapter_of_the_ranks_together(tmp_path: Path, targets: str, ranks: set[int]) -> None:
    ours, _ = make("gpt2", "causal_lm", targets, torch.float32)
    run = RunPaths(tmp_path)
    save_lane(ours, 1, run, {})
    theirs = peft.PeftModel.from_pretrained(tiny("gpt2", causal_lm=True).to(torch.float32), run.adapter)
    layers = [m for m in theirs.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    assert {layer.r["default"] for layer in layers} == ranks
    assert {layer.scaling["default"] for layer in layers} == {6.0 / 3}
    assert len(layers) == 2 * (1 + ("o" in targets))


@pytest.mark.parametrize("layers", ["0-0", "1-1"])
def test_only_the_layers_that_were_adapted_are_named(tmp_path: Path, layers: str) -> None:
    base, data = tiny_base("bert", dtype=torch.float32), tiny_data()
    ours = AdaptedModel(base, [tiny_cell(data, base, targets="od", layers=layers)], num_labels=3, pad_id=1)
    shake(ours)
    run = RunPaths(tmp_path)
    save_lane(ours, 0, run, {})
    theirs = peft.PeftModel.from_pretrained(tiny("bert").to(torch.float32), run.adapter)
    adapted = [name for name, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    stem = f"base_model.model.encoder.layer.{layers[0]}"
    assert sorted(adapted) == [f"{stem}.attention.output.dense", f"{stem}.output.dense"]
    with torch.no_grad():
        batch = collate(data.train, torch.arange(6), 1)
        mine = ours.forward([batch], training=False)[0].logits
        torch.testing.assert_close(mine, peft_logits(theirs, run, batch, "classification"), rtol=1e-6, atol=1e-6)


def test_peft_can_train_on_from_what_was_saved(tmp_path: Path) -> None:
    """Every tensor finds its parameter: peft's own state after loading is what the file holds."""
    ours, _ = make("gpt2", "causal_lm", "qvod", torch.float32)
    run = RunPaths(tmp_path)
    save_lane(ours, 1, run, {})
    plain = tiny("gpt2", causal_lm=True).to(torch.float32)
    theirs = peft.PeftModel.from_pretrained(plain, run.adapter, is_trainable=True)
    state = peft.get_peft_model_state_dict(theirs, save_embedding_layers=False)
    saved = load_file(run.adapter_weights)
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[name], saved[name]) for name in saved)
    assert {p.requires_grad for name, p in theirs.named_parameters() if "lora_" in name} == {True}
    assert peft.PeftConfig.from_pretrained(run.adapter).lora_dropout == 0.1


def test_fused_factors_equal_the_letters_side_by_side() -> None:
    """The product of the stacked factors is each letter's delta W in its own rows, and zero elsewhere."""
    base = tiny_base("gpt2")
    projections = [p for p in base.projections if p.layer == 0 and p.letter in "kv"]
    draw = torch.Generator().manual_seed(0)

    def factor(*shape: int) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.randn(*shape, generator=draw, dtype=torch.float64))

    adapters = {
        p.key: LowRank(factor(rank, 16), factor(16, rank), 2.0, p.rows, 0.0)
        for rank, p in zip((2, 3), projections, strict=True)
    }
    made = to_peft(projections, adapters, weight_of=torch.empty, prefix="", source="x", task_type=None)
    a, b = (made.tensors[f"base_model.model.h.0.attn.c_attn.lora_{matrix}.weight"] for matrix in "AB")
    assert (tuple(a.shape), tuple(b.shape)) == ((5, 16), (48, 5))
    scale = made.config["lora_alpha"] / made.config["r"]
    by_hand = torch.cat([torch.zeros(16, 16, dtype=torch.float64), *(adapters[p.key].delta() for p in projections)])
    torch.testing.assert_close(scale * b @ a, by_hand, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("model_type", "kind", "targets"), [case for case in CASES if case[0] == "gpt2" or case[2] == "all"]
)
def test_what_was_saved_comes_back(tmp_path: Path, model_type: str, kind: TaskKind, targets: str) -> None:
    """delta W of every letter, its own rank even out of a fused weight, and no letter that was not adapted."""
    ours, _ = make(model_type, kind, targets, torch.float64)
    run = RunPaths(tmp_path)
    save_lane(ours, 1, run, {})
    loaded = from_peft(ours.base.projections, read_peft(run.adapter))
    assert loaded.left_out == ()
    assert loaded.adapters.keys() == ours.adapters[1].keys()
    for key, adapter in ours.adapters[1].items():
        back = loaded.adapters[key]
        assert (back.a.shape, back.rows, back.dropout) == (adapter.a.shape, adapter.rows, 0.1)
        torch.testing.assert_close(back.delta(), adapter.delta(), rtol=0, atol=1e-14)


PEFT: list[Any] = [
    ("bert", ["query", "value"], {}),
    ("bert", ["query", "intermediate.dense"], {"use_rslora": True}),
    ("bert", ["query", "key"], {"rank_pattern": {"query": 5}, "alpha_pattern": {r"layer\.1.*\.key": 3.0}}),
    ("llama", "all-linear", {}),
    ("gpt2", ["c_attn"], {"fan_in_fan_out": True}),
    ("gpt2", ["attn.c_proj", "c_attn", "mlp.c_proj"], {"fan_in_fan_out": True, "use_rslora": True}),
]


@pytest.mark.parametrize(
    ("model_type", "modules", "options", "causal_lm"),
    [(*case, causal_lm) for case in PEFT for causal_lm in {False, case[0] != "bert"}],
)
def test_delta_w_of_an_adapter_from_elsewhere_is_pefts_own(
    tmp_path: Path, model_type: str, modules: Any, options: dict[str, Any], causal_lm: bool
) -> None:
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=modules, init_lora_weights=False, **options)
    if causal_lm:
        config.task_type = "CAUSAL_LM"
    model = peft.get_peft_model(tiny(model_type, causal_lm=causal_lm), config)
    model.save_pretrained(tmp_path)
    base = tiny_base(model_type)  # the backbone alone, whatever the adapter was trained around
    loaded = from_peft(base.projections, read_peft(tmp_path))
    theirs = {name: m for name, m in model.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    seen = set()
    for p in base.projections:
        layer = next((m for name, m in theirs.items() if name.endswith(f".{p.module}")), None)
        assert (p.key in loaded.adapters) == (layer is not None)
        if layer is not None:
            delta = layer.get_delta_weight("default")
            delta = delta.T if p.transposed else delta
            expected = p.rows.take(delta, 0)
            torch.testing.assert_close(loaded.adapters[p.key].delta(), expected, rtol=1e-12, atol=1e-12)
            seen.add(p.module)
    assert len(seen) == len(theirs)


def stored(**changes: Any) -> PeftAdapter:
    """An adapter of one matrix of the tiny BERT, as peft names it; `changes` to the config, or tensors by name."""
    stem = "base_model.model.encoder.layer.0.attention.self.query.lora_"
    tensors = {f"{stem}A.weight": torch.ones(2, 16), f"{stem}B.weight": torch.ones(16, 2)}
    tensors |= {f"{stem}{name}.weight": changes.pop(name) for name in ("A", "B") if name in changes}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **changes}
    return PeftAdapter(config, {name: tensor for name, tensor in tensors.items() if tensor is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', not LORA"),
        ({"use_dora": True}, "needs a lora_magnitude_vector of 16 numbers"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"alpha_pattern": {"(": 3}}, "alpha_pattern"),
        ({"A": torch.ones(2, 17)}, "are 2 x 17 and 16 x 2, not r x 16 and 16 x r"),
        ({"B": torch.ones(16, 3)}, "does not fit"),
        ({"B": None}, "has not both lora_A and lora_B"),
        ({"A": torch.full((2, 16), torch.nan)}, "damaged"),
        ({"bias": "all"}, "its bias is 'all', .* only none is allowed"),
        ({"bias": "lora_only"}, "its bias is 'lora_only'"),
        ({"lora_bias": True}, "with its lora_bias a module computes something else"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "with its layer_replication"),
        ({"alora_invocation_tokens": [5, 6]}, "with its alora_invocation_tokens"),
    ],
)
def test_what_is_no_lora_adapter_of_this_base_is_refused(changes: dict[str, Any], message: str) -> None:
    base = tiny_base("bert")
    assert len(from_peft(base.projections, stored()).adapters) == 1
    with pytest.raises(HarnessError, match=message) as caught:
        from_peft(base.projections, stored(**changes))
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_architecture_fits_nothing() -> None:
    with pytest.raises(HarnessError, match=r"none of its 2 tensors belongs to a module of it, such as layers\.0"):
        from_peft(tiny_base("llama").projections, stored())


def test_tensors_of_no_letter_are_named() -> None:
    saved = stored()
    others = ("base_model.model.classifier.weight", "base_model.model.pooler.dense.lora_A.weight")
    saved.tensors.update({name: torch.ones(2, 16) for name in others})
    assert from_peft(tiny_base("bert").projections, saved).left_out == others


@pytest.mark.parametrize(
    "name", ["0.attention.self.query.lora_B.bias", "0.attention.self.query.bias", "1.attention.self.value.weight"]
)
def test_a_tensor_inside_a_matrix_is_not_left_out_in_silence(name: str) -> None:
    """What lora_bias or bias=all saves, and a whole matrix that was trained (modules_to_save)."""
    saved = stored()
    saved.tensors[f"base_model.model.encoder.layer.{name}"] = torch.ones(16)
    with pytest.raises(HarnessError, match=f"{name} is no lora_A, lora_B or magnitude"):
        from_peft(tiny_base("bert").projections, saved)


@pytest.mark.filterwarnings("ignore:Adapter 'default'")  # peft takes its own bias for half a factor
@pytest.mark.parametrize("options", [{"lora_bias": True}, {"bias": "lora_only"}, {"bias": "all"}])
def test_peft_s_own_biases_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    config = peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False, **options)
    peft.get_peft_model(tiny("bert"), config).save_pretrained(tmp_path)
    with pytest.raises(HarnessError, match=next(iter(options))):
        from_peft(tiny_base("bert").projections, read_peft(tmp_path))


@pytest.mark.parametrize("damage", ["missing", "json", "list", "weights"])
def test_files_that_cannot_be_read_are_one_sentence(tmp_path: Path, damage: str) -> None:
    run = RunPaths(tmp_path)
    ours, _ = make("bert", "classification", "q", torch.float32)
    save_lane(ours, 1, run, {})
    match damage:
        case "missing":
            run.adapter_weights.unlink()
        case "json":
            run.adapter_config.write_text("{")
        case "list":
            run.adapter_config.write_text("[]")
        case _:
            run.adapter_weights.write_bytes(b"damaged")
    with pytest.raises(HarnessError, match="holds no adapter that can be read") as caught:
        read_peft(run.adapter)
    assert "\n" not in str(caught.value)
