"""Adapters that do something, and what they answer by dense algebra on a copy of the model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from src.adapters.lowrank import LowRank
from src.adapters.projections import is_transposed
from src.models.bank import TaskHead
from src.models.loading import Base
from tests.tiny import token_ids

LENGTHS = torch.tensor([7, 4, 7, 1, 6, 2, 5, 3])


def random_adapters(base: Base, letters: str, rank: int, seed: int, **changes: Any) -> dict[str, LowRank]:
    """Adapters that do something; `changes` are scale, dora, or origin (as PiSSA has one)."""
    draw = torch.Generator().manual_seed(seed)
    dtype = next(base.model.parameters()).dtype

    def normal(*shape: int, mean: float = 0.0) -> nn.Parameter:
        return nn.Parameter(torch.empty(shape, dtype=dtype).normal_(mean, 0.3, generator=draw), requires_grad=False)

    def low_rank(p: Any, scale: float) -> LowRank:
        return LowRank(normal(rank, p.d_in), normal(p.d_out, rank), scale, p.rows, 0.1)

    scale = changes.get("scale", 0.5)
    return {
        p.key: LowRank(
            **(vars(low_rank(p, scale)) | {
                "magnitude": normal(p.d_out, mean=1.0) if changes.get("dora") else None,
                "origin": low_rank(p, -scale) if changes.get("origin") else None,
            })
        )
        for p in base.projections if p.letter in letters
    }  # fmt: skip


def random_head(base: Base, num_labels: int, seed: int) -> TaskHead:
    draw = torch.Generator().manual_seed(seed)
    dtype = next(base.model.parameters()).dtype
    weight = torch.randn(num_labels, base.hidden_size, generator=draw, dtype=dtype)
    return TaskHead(weight, torch.randn(num_labels, generator=draw, dtype=dtype))


def batch(rows: int) -> dict[str, Tensor]:
    """Rows of different length, padded on the right."""
    lengths = LENGTHS[:rows]
    return {"input_ids": token_ids(rows, 7), "attention_mask": (torch.arange(7) < lengths[:, None]).long()}


@torch.no_grad()
def by_hand(base: Base, adapters: dict[str, LowRank], inputs: dict[str, Tensor]) -> Tensor:
    """What a copy of the model answers whose weights were changed with dense algebra."""
    model, projections = copy.deepcopy(base.model), {p.key: p for p in base.projections}
    for key, adapter in adapters.items():
        module = model.get_submodule(base.prefix + projections[key].module)
        weight = module.weight.T if is_transposed(module) else module.weight
        units = projections[key].rows.index()
        delta = adapter.scale * adapter.b @ adapter.a
        if adapter.origin is not None:
            delta += adapter.origin.scale * adapter.origin.b @ adapter.origin.a
        new = weight[units] + delta
        if adapter.magnitude is not None:
            new *= (adapter.magnitude / new.norm(dim=1))[:, None]
        weight[units] = new
    output = model(**inputs)
    return output.logits if base.output is not None else output.last_hidden_state


def close(answers: Sequence[Tensor], expected: Tensor) -> None:
    torch.testing.assert_close(torch.stack(list(answers)), expected, rtol=1e-10, atol=1e-10)
