"""Learning rates and weight decay by parameter group: head, A, B (LoRA+) and what does not decay."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from src.training.lane import make_optimizer
from tests.record_factory import make_spec
from tests.tiny import start, tiny, tiny_base, tiny_cell, tiny_data


def rates(optimizer: torch.optim.Optimizer, named: dict[str, nn.Parameter]) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter by name."""
    of = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    return {name: of[id(parameter)] for name, parameter in named.items()}


@pytest.mark.parametrize("ratio", [1.0, 16.0])
def test_each_group_has_its_own_rate(ratio: float) -> None:
    base, data = tiny_base("bert"), tiny_data()
    options: dict[str, Any] = {"lr": 1e-3, "head_lr": 3e-2, "weight_decay": 0.1, "dora": True, "b_lr_ratio": ratio}
    model, lanes = start(base, data, [tiny_cell(data, base, **options)])
    found = rates(lanes[0].optimizer, model.parameters(0))
    assert {name[-1]: rate for name, rate in found.items() if not name.startswith("head.")} == {
        "A": (1e-3, 0.1),
        "B": (pytest.approx(ratio * 1e-3), 0.1),
        "m": (1e-3, 0.0),
    }
    assert (found["head.weight"], found["head.bias"]) == ((3e-2, 0.1), (3e-2, 0.0))


def test_lora_plus_groups_are_pefts() -> None:
    """The same rates for A and B as peft's own LoRA+ optimiser gives them."""
    config = peft.LoraConfig(r=2, target_modules=["query", "value"])
    theirs = peft.get_peft_model(tiny("bert").float(), config)
    optimizer = create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0)
    named = {name: p for name, p in theirs.named_parameters() if p.requires_grad}
    expected = {("A" if "lora_A" in name else "B"): rate for name, (rate, _) in rates(optimizer, named).items()}
    own = {name: nn.Parameter(torch.zeros(2, 2)) for name in ("x.q.A", "x.q.B")}
    spec = make_spec(optim__lr=1e-3, lora__b_lr_ratio=16.0)
    ours = {name[-1]: rate for name, (rate, _) in rates(make_optimizer(spec, own), own).items()}
    assert ours == pytest.approx(expected)
