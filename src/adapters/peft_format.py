"""Adapters on disk in peft's format, so that peft loads them onto the plain base model and computes the same.

A fused weight (GPT-2's c_attn) has one adapter in peft where we have one for each letter. With A_q .. A_v stacked
to (sum of r) x d_in and B_q .. B_v placed in their own rows and columns of a d_out x (sum of r) matrix of zeros, the
one product B A equals the letters' products side by side, so nothing is approximated.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection
from src.errors import HarnessError

# Ways to start that take something out of W0, so that what is saved is not the change of W0 that the run made.
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.[^.]+)?\.weight")


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


@dataclass(frozen=True)
class Loaded:
    """A saved adapter in terms of the base's letters.

    Attributes:
        adapters: by projection key; letters whose delta W is zero by construction are missing.
        left_out: saved tensors that belong to no letter, such as a classifier's.
    """

    adapters: dict[str, LowRank]
    left_out: tuple[str, ...]


def read_peft(folder: Path) -> PeftAdapter:
    """The two files of a saved adapter.

    Raises:
        HarnessError: one of them is missing or cannot be read.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
        tensors = load_file(folder / "adapter_model.safetensors")
        if not isinstance(config, dict):
            raise ValueError("adapter_config.json holds no object")
    except (OSError, ValueError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise HarnessError(
            f"{folder} holds no adapter that can be read ({cause}); it needs peft's adapter_config.json and "
            "adapter_model.safetensors."
        ) from error
    return PeftAdapter(config, tensors)


def from_peft(projections: Sequence[Projection], saved: PeftAdapter) -> Loaded:
    """The inverse of `to_peft`, also for what peft itself saved: delta W = scale * B A for each letter.

    The scale is alpha / r, or alpha / sqrt(r) with rsLoRA, where alpha_pattern may set alpha module by module; r is
    taken from the factors. peft keeps A as r x d_in and B as d_out x r also where the base stores its weight
    transposed (fan_in_fan_out). A letter in a fused weight gets its own rows of B, without those columns that are
    zero in all of them; nothing is lost by that.

    Args:
        projections: of the base that the adapter is meant for.

    Raises:
        HarnessError: not a LoRA adapter, one whose delta W is not scale * B A, or one that does not fit the base.
    """
    _check_kind(saved.config)
    modules = {module: list(group) for module, group in groupby(projections, key=lambda p: p.module)}
    factors, left_out = _sort(saved.tensors, modules)
    if not factors:
        raise HarnessError(
            f"The adapter does not fit the base: none of its {len(saved.tensors)} tensors belongs to a module of it, "
            f"such as {projections[0].module}."
        )
    adapters: dict[str, LowRank] = {}
    for module, (name, a, b) in factors.items():
        group = modules[module]
        _check_shapes(name, a, b, group[0])
        scale = _scale(saved.config, name, len(a))
        adapters |= _split(group, a, b, scale, float(saved.config.get("lora_dropout") or 0.0))
    return Loaded(adapters, left_out)


def _check_kind(config: Mapping[str, Any]) -> None:
    start = config.get("init_lora_weights")
    reason = None
    if config.get("peft_type") != "LORA":
        reason = f"its peft_type is {config.get('peft_type')!r}, not LORA"
    elif config.get("use_dora"):
        reason = "it is a DoRA adapter, whose change of W is not of low rank"
    elif isinstance(start, str) and start.startswith(_CHANGES_THE_BASE):
        reason = f"it started from {start}, which changes the base; save it converted to plain LoRA"
    if reason:
        raise HarnessError(f"The adapter cannot be analysed: {reason}.")


def _sort(
    tensors: Mapping[str, Tensor], modules: Mapping[str, Any]
) -> tuple[dict[str, tuple[str, Tensor, Tensor]], tuple[str, ...]]:
    """Name in the file, A and B by the base's module, and the names of what belongs to none."""
    pairs: dict[str, dict[str, Tensor]] = {}
    names: dict[str, str] = {}
    left_out = []
    for key, tensor in tensors.items():
        match = _NAME.fullmatch(key)
        module = next(_endings(match["module"], modules), None) if match else None
        if match is None or module is None:
            left_out.append(key)
            continue
        names[module] = match["module"]
        pairs.setdefault(module, {})[match["factor"]] = tensor
    if halves := [names[module] for module, pair in pairs.items() if len(pair) < 2]:
        raise HarnessError(f"The adapter is incomplete: {halves[0]} has only one of lora_A and lora_B.")
    return {m: (names[m], pair["A"], pair["B"]) for m, pair in pairs.items()}, tuple(sorted(left_out))


def _endings(name: str, modules: Mapping[str, Any]) -> Iterator[str]:
    """Modules that `name` names, whatever the models are called around the backbone."""
    parts = name.split(".")
    return (ending for at in range(len(parts)) if (ending := ".".join(parts[at:])) in modules)


def _check_shapes(name: str, a: Tensor, b: Tensor, projection: Projection) -> None:
    wanted = f"r x {projection.d_in} and {projection.module_out} x r"
    good = a.dim() == b.dim() == 2 and (a.shape[1], b.shape[0]) == (projection.d_in, projection.module_out)
    if not good or a.shape[0] != b.shape[1] or a.shape[0] < 1:
        shapes = " and ".join(" x ".join(map(str, factor.shape)) for factor in (a, b))
        raise HarnessError(f"The adapter does not fit the base: A and B of {name} are {shapes}, not {wanted}.")
    if not (a.is_floating_point() and b.is_floating_point() and a.isfinite().all() and b.isfinite().all()):
        raise HarnessError(f"The adapter is damaged: A or B of {name} holds values that are no finite numbers.")


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    try:
        patterns = config.get("alpha_pattern") or {}
        own = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name))
        alpha = float(next(own, config.get("lora_alpha", 8)))
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise HarnessError(f"The adapter's lora_alpha or alpha_pattern cannot be read: {error}.") from error
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _split(group: Sequence[Projection], a: Tensor, b: Tensor, scale: float, dropout: float) -> dict[str, LowRank]:
    """One module's adapter as those of its letters."""
    fused = len(group) > 1 or group[0].d_out != group[0].module_out
    adapters = {}
    for p in group:
        rows = b[p.start : p.start + p.d_out]
        # Where B is zero as a whole, as before training, nothing tells which columns are whose.
        used = rows.any(dim=0) if fused and b.any() else torch.ones(len(a), dtype=torch.bool)
        if used.any():
            own_a, own_b = (nn.Parameter(t.contiguous(), requires_grad=False) for t in (a[used], rows[:, used]))
            adapters[p.key] = LowRank(own_a, own_b, scale, p.start, dropout)
    return adapters
