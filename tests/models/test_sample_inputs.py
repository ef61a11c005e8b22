"""Random inputs that every kind of model takes."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, ViTConfig

from src.models.loading import Base, freeze
from src.models.methods.used import used_names
from src.models.sample_inputs import image_shape, sample_inputs
from tests.tiny import SEQ2SEQ, tiny_base
from tests.tiny_architectures import CASES


def oblong() -> Base:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=24, image_size=[8, 12],
        patch_size=4, num_channels=2,
    )  # fmt: skip
    return freeze(AutoModel.from_config(config), "classification", "tiny")


@pytest.mark.parametrize("name", CASES)
def test_every_architecture_takes_them(name: str) -> None:
    base = freeze(CASES[name].build(), "classification", "tiny")
    inputs = sample_inputs(base, 3, 5)
    again = sample_inputs(base, 3, 5)
    assert next(iter(inputs)) == base.model.main_input_name
    assert {len(tensor) for tensor in inputs.values()} == {3}
    assert all(torch.equal(tensor, again[key]) for key, tensor in inputs.items())
    hidden = base.backbone(**inputs).last_hidden_state
    assert len(hidden) == 3 and hidden.isfinite().all()


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_a_decoder_that_writes_gets_tokens_of_its_own(name: str) -> None:
    inputs = sample_inputs(tiny_base(name, "seq2seq"), 2, 5)
    assert inputs["decoder_input_ids"].shape == (2, 5)
    assert not torch.equal(inputs["decoder_input_ids"], inputs["input_ids"])


def test_pictures_need_not_be_square() -> None:
    base = oblong()
    assert image_shape(base.model.config) == (2, 8, 12)
    inputs = sample_inputs(base, 3, 5)
    assert inputs["pixel_values"].shape == (3, 2, 8, 12)
    assert base.backbone(**inputs).last_hidden_state.shape == (3, 2 * 3 + 1, 16)
    assert "embeddings.cls_token" in used_names(base)


def test_precision_and_device_follow_what_they_should_be_like() -> None:
    base = oblong()
    assert sample_inputs(base, 1, 2, like=torch.empty(0, dtype=torch.float64))["pixel_values"].dtype == torch.float64
    base.model.bfloat16()
    assert sample_inputs(base, 1, 2)["pixel_values"].dtype == torch.bfloat16
