"""What peft saved answers in a bank as it does in peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from src.models.bank import AdapterBank
from tests.models.bank.dense import batch, close
from tests.tiny import tiny, tiny_base


@pytest.mark.parametrize(
    ("model_type", "modules", "options"),
    [
        ("bert", ["query", "value"], {"use_rslora": True}),
        ("bert", "all-linear", {"use_dora": True}),
        ("qwen3", ["q_proj", "up_proj"], {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"up_proj": 3}}),
        ("gpt2", ["c_attn"], {"fan_in_fan_out": True}),
        ("gpt2", ["c_attn", "c_proj"], {"fan_in_fan_out": True, "use_dora": True}),
    ],
)
def test_what_peft_saved_answers_as_in_peft(
    tmp_path: Path, model_type: str, modules: Any, options: dict[str, Any]
) -> None:
    config = peft.LoraConfig(r=3, target_modules=modules, init_lora_weights=False, **options)
    theirs = peft.get_peft_model(tiny(model_type), config)
    for name, parameter in theirs.named_parameters():
        if "magnitude" in name:
            parameter.data += 0.2 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1))
    theirs.eval().save_pretrained(tmp_path)
    bank = AdapterBank(tiny_base(model_type))
    left_out = bank.load("theirs", tmp_path)
    assert all("pooler" in name for name in left_out)
    with torch.no_grad():
        expected = theirs(**batch(8)).last_hidden_state
    close(bank.forward(batch(8), ["theirs"] * 8), expected)
    bank.merge("theirs")
    close(bank.forward(batch(8)), expected)


def test_a_magnitude_out_of_a_fused_weight_counts_also_where_b_is_zero(tmp_path: Path) -> None:
    """Of GPT-2's q, k and v only v's rows of B were trained, but the magnitudes of all three."""
    config = peft.LoraConfig(r=3, target_modules=["c_attn"], fan_in_fan_out=True, use_dora=True)
    theirs = peft.get_peft_model(tiny("gpt2"), config)
    for name, parameter in theirs.named_parameters():
        if "magnitude" in name:
            parameter.data += 0.2 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1))
        elif "lora_B" in name:
            parameter.data[32:] = 0.3
    theirs.eval().save_pretrained(tmp_path)
    bank = AdapterBank(tiny_base("gpt2"))
    bank.load("theirs", tmp_path)
    with torch.no_grad():
        close(bank.forward(batch(8), ["theirs"] * 8), theirs(**batch(8)).last_hidden_state)
