"""What takes part in the forward pass is what gets gradients there, in every architecture."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel

from src.models.loading import Base, freeze
from src.models.methods.used import used_names
from src.spec import TaskKind
from tests.tiny import CONFIGS, SEQ2SEQ, tiny_base, token_ids
from tests.tiny_architectures import CASES

_POOLER = {"pooler.dense.weight", "pooler.dense.bias"}
UNUSED = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "vit"), _POOLER),
    "clip_vision_model": {"post_layernorm.weight", "post_layernorm.bias"},
}
WRITERS = [*((name, "causal_lm") for name in ("gpt2", "llama")), *((name, "seq2seq") for name in SEQ2SEQ)]


def with_gradients(base: Base, inputs: dict[str, torch.Tensor]) -> set[str]:
    """By a real backward pass."""
    base.model.requires_grad_(True)
    hidden = base.backbone(**inputs).last_hidden_state
    out = hidden if base.output is None else base.output(hidden)
    out.sum().backward()
    names = {name for name, parameter in base.model.named_parameters() if parameter.grad is not None}
    base.model.requires_grad_(False)
    return names


@pytest.mark.parametrize("name", CASES)
def test_they_are_those_with_gradients(name: str) -> None:
    case = CASES[name]
    base = freeze(case.build(), "classification", "tiny")
    inputs = case.inputs()
    if case.config.model_type != "whisper":
        inputs.pop("decoder_input_ids", None)
    names = used_names(base)
    assert set(names) == with_gradients(base, inputs)
    if name in UNUSED:
        assert {n for n, _ in base.model.named_parameters()} - set(names) == UNUSED[name]


@pytest.mark.parametrize(("model_type", "kind"), WRITERS)
def test_a_writing_models_head_takes_part_and_tied_weights_count_once(model_type: str, kind: TaskKind) -> None:
    base = tiny_base(model_type, kind)
    ids = token_ids(2, 5)
    decoder = {"decoder_input_ids": ids} if kind == "seq2seq" else {}
    names = used_names(base)
    assert set(names) == with_gradients(base, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **decoder})
    assert set(names) == {name for name, _ in base.model.named_parameters()}


def test_an_outline_has_the_same_and_nothing_is_changed() -> None:
    real = tiny_base("bert")
    with torch.device("meta"):
        sketch = freeze(AutoModel.from_config(CONFIGS["bert"]), "classification", "tiny")
    assert used_names(sketch) == used_names(real)
    assert all(p.device.type == "meta" and not p.requires_grad for p in sketch.model.parameters())
    assert not any(p.requires_grad or p.grad is not None for p in real.model.parameters())
