"""Adapters on disk in peft's format, so that peft loads them onto the plain base model and computes the same.

A fused weight (GPT-2's c_attn) has one adapter in peft where we have one for each letter. With A_q .. A_v stacked
to (sum of r) x d_in and B_q .. B_v placed in their own rows and columns of a d_out x (sum of r) matrix of zeros, the
one product B A equals the letters' products side by side, so nothing is approximated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection


@dataclass(frozen=True)
class PeftAdapter:
    """What peft reads.

    Attributes:
        config: adapter_config.json.
        tensors: adapter_model.safetensors.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def to_peft(
    projections: Sequence[Projection],
    adapters: Mapping[str, LowRank],
    *,
    weight_of: Callable[[str], Tensor],
    prefix: str,
    source: str,
    task_type: str | None,
) -> PeftAdapter:
    """Convert one lane's adapters.

    PiSSA's, whose origin peft would take out of W0, become plain ones of twice the rank.

    Args:
        weight_of: W0 of a module (d_out x d_in) by its name: it tells DoRA's m of output units that are not adapted.
        prefix: of the backbone within the model that peft wraps (AutoModel or AutoModelForCausalLM).
        source: path or id of the base model.
        task_type: peft's name of the task, None for a bare backbone.
    """
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    scales: dict[str, float] = {}
    for module, group in groupby(projections, key=lambda p: p.module):
        name, members = f"base_model.model.{prefix}{module}", list(group)
        a, b, scales[module] = _fuse(members, adapters)
        ranks[module] = len(a)
        tensors[f"{name}.lora_A.weight"] = a
        tensors[f"{name}.lora_B.weight"] = b
        if adapters[members[0].key].magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = _magnitudes(members, adapters, weight_of(module))
    rank = Counter(ranks.values()).most_common(1)[0][0]
    scale = next(scales[module] for module, own in ranks.items() if own == rank)
    first = next(iter(adapters.values()))
    others = {prefix + m: r for m, r in ranks.items() if (r, scales[m]) != (rank, scale)}
    config = {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": source,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": first.dropout,
        "use_dora": first.magnitude is not None,
        "bias": "none",
        "fan_in_fan_out": projections[0].transposed,
        "target_modules": [prefix + module for module in ranks],
        "rank_pattern": others,
        "alpha_pattern": {m: scales[m.removeprefix(prefix)] * r for m, r in others.items()},
    }
    return PeftAdapter(config, tensors)


def _fuse(group: Sequence[Projection], adapters: Mapping[str, LowRank]) -> tuple[Tensor, Tensor, float]:
    """A, B and scale of one module from the adapters of the letters in it."""
    factors = [adapters[p.key].factors() for p in group]
    scales = [adapters[p.key].scale for p in group]
    stacked = torch.cat([a for a, _ in factors]).cpu().contiguous()
    placed = torch.zeros(group[0].module_out, len(stacked), dtype=stacked.dtype)
    column = 0
    for projection, (a, b), scale in zip(group, factors, scales, strict=True):
        # Letters of different rank have scales of their own, a module in peft has one.
        own = b.cpu() if scale == scales[0] else b.cpu() * (scale / scales[0])
        projection.rows.copy_(placed[:, column : column + len(a)], own, 0)
        column += len(a)
    return stacked, placed, scales[0]


def _magnitudes(group: Sequence[Projection], adapters: Mapping[str, LowRank], weight: Tensor) -> Tensor:
    """m of all output units of a module; those of letters that are not adapted keep their norm in W0."""
    magnitudes = [m.detach() for p in group if (m := adapters[p.key].magnitude) is not None]
    norms = torch.linalg.vector_norm(weight.detach().to(magnitudes[0].dtype), dim=1).cpu()
    for projection, magnitude in zip(group, magnitudes, strict=True):
        projection.rows.copy_(norms, magnitude.cpu(), 0)
    return norms
