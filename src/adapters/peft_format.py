"""Adapters on disk in peft's format, so that peft loads them onto the plain base model and computes the same.

A fused weight (GPT-2's c_attn) has one adapter in peft where we have one for each letter. With A_q .. A_v stacked
to (sum of r) x d_in and B_q .. B_v placed in their own rows and columns of a d_out x (sum of r) matrix of zeros, the
one product B A equals the letters' products side by side, so nothing is approximated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
    prefix: str,
    source: str,
    causal_lm: bool,
) -> PeftAdapter:
    """Convert one lane's adapters.

    Args:
        prefix: of the backbone within the model that peft wraps (AutoModel or AutoModelForCausalLM).
        source: path or id of the base model.
    """
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    scales: dict[str, float] = {}
    for module, group in groupby(projections, key=lambda p: p.module):
        a, b, scales[module] = _fuse(list(group), adapters)
        ranks[module] = len(a)
        tensors[f"base_model.model.{prefix}{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{prefix}{module}.lora_B.weight"] = b
    rank = Counter(ranks.values()).most_common(1)[0][0]
    scale = next(iter(scales.values()))
    dropout = next(iter(adapters.values())).dropout
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if causal_lm else None,
        "base_model_name_or_path": source,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": dropout,
        "bias": "none",
        "fan_in_fan_out": projections[0].transposed,
        "target_modules": [prefix + module for module in ranks],
        "rank_pattern": {prefix + m: r for m, r in ranks.items() if r != rank},
        "alpha_pattern": {prefix + m: scales[m] * r for m, r in ranks.items() if r != rank},
    }
    return PeftAdapter(config, tensors)


def _fuse(group: Sequence[Projection], adapters: Mapping[str, LowRank]) -> tuple[Tensor, Tensor, float]:
    """A, B and scale of one module from the adapters of the letters in it."""
    parts = [adapters[p.key] for p in group]
    a = torch.cat([part.a.detach() for part in parts]).cpu().contiguous()
    b = torch.zeros(group[0].module_out, len(a), dtype=a.dtype)
    column = 0
    for projection, part in zip(group, parts, strict=True):
        rank = part.a.shape[0]
        b[projection.start : projection.start + projection.d_out, column : column + rank] = part.b.detach().cpu()
        column += rank
    return a, b, parts[0].scale
