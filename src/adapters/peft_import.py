"""Adapters that peft saved, in terms of the base's letters: the way back from src/adapters/peft_format.py."""

from __future__ import annotations

import json
import math
import re
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
from src.adapters.peft_format import PeftAdapter
from src.adapters.projections import Projection
from src.errors import HarnessError, brief

# Ways to start that take something out of W0, so that what is saved is not the change of W0 that the run made.
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Settings with which a module computes something else than W0 x + scale * B A x.
_OTHER_PRODUCTS = (
    "lora_bias", "layer_replication", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config",
    "alora_invocation_tokens",
)  # fmt: skip
MOST_CONFIG = 1_000_000  # bytes; an alpha for each of many thousand modules is less
MOST_RANK = 2**20  # also of alpha
LONGEST_NAME = 500  # characters of a tensor's name
# What a pattern may hold beside letters; two repetitions can be tried in no more ways than a name has pairs of places.
_PATTERN = re.compile(r"[\w.^$\\|()*+\[\]-]{1,300}")
_REPEATED_GROUP = re.compile(r"\)[*+{?]")
MOST_REPETITIONS = 2
_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\."
    r"(?:lora_(?P<factor>[AB])(?:\.[^.]+)?\.weight|lora_magnitude_vector(?:\.[^.]+\.weight)?)"
)


@dataclass(frozen=True)
class Loaded:
    """A saved adapter in terms of the base's letters.

    Attributes:
        adapters: by projection key; letters whose delta W is zero by construction are missing.
        left_out: saved tensors of modules without a letter, such as a classifier's.
    """

    adapters: dict[str, LowRank]
    left_out: tuple[str, ...]


def read_peft(folder: Path) -> PeftAdapter:
    """The two files of a saved adapter.

    Raises:
        HarnessError: one of them is missing or cannot be read.
    """
    try:
        file = folder / "adapter_config.json"
        if file.stat().st_size > MOST_CONFIG:
            raise ValueError(f"adapter_config.json has more than {MOST_CONFIG:,} bytes")
        config = json.loads(file.read_bytes())
        tensors = load_file(folder / "adapter_model.safetensors")
        if not isinstance(config, dict):
            raise ValueError("adapter_config.json holds no object")
    except (OSError, ValueError, RecursionError, MemoryError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise HarnessError(
            f"{folder} holds no adapter that can be read ({cause}); it needs peft's adapter_config.json and "
            "adapter_model.safetensors."
        ) from error
    return PeftAdapter(config, tensors)


def from_peft(projections: Sequence[Projection], saved: PeftAdapter) -> Loaded:
    """The inverse of `to_peft`, also for what peft itself saved: delta W = scale * B A for each letter, and DoRA's m.

    The scale is alpha / r, or alpha / sqrt(r) with rsLoRA, where alpha_pattern may set alpha module by module; r is
    taken from the factors. peft keeps A as r x d_in and B as d_out x r also where the base stores its weight
    transposed (fan_in_fan_out). A letter in a fused weight gets its own rows of B, without those columns that are
    zero in all of them; nothing is lost by that. With DoRA every letter of a fused weight has its m, also one whose
    rows of B are zero as a whole; one zero column stands for them.

    Args:
        projections: of the base that the adapter is meant for.

    Raises:
        HarnessError: not a LoRA adapter, one that takes something out of W0 or computes more than a low-rank product,
            or one that does not fit the base.
    """
    _check_kind(saved.config)
    _check_numbers(saved.config)
    modules = {module: list(group) for module, group in groupby(projections, key=lambda p: p.module)}
    factors, left_out = _sort(saved.tensors, modules)
    if not factors:
        raise HarnessError(
            f"The adapter does not fit the base: none of its {len(saved.tensors)} tensors belongs to a module of it, "
            f"such as {projections[0].module}."
        )
    adapters: dict[str, LowRank] = {}
    for module, (name, tensors) in factors.items():
        group = modules[module]
        _check_tensors(name, tensors, group[0], dora=bool(saved.config.get("use_dora")))
        scale = _scale(saved.config, name, len(tensors["A"]))
        adapters |= _split(group, tensors, scale, float(saved.config.get("lora_dropout") or 0.0))
    return Loaded(adapters, left_out)


def _check_kind(config: Mapping[str, Any]) -> None:
    start = config.get("init_lora_weights")
    reason = None
    if config.get("peft_type") != "LORA":
        reason = f"its peft_type is {config.get('peft_type')!r}, not LORA"
    elif isinstance(start, str) and start.startswith(_CHANGES_THE_BASE):
        reason = f"it started from {start}, which changes the base; save it converted to plain LoRA"
    elif (config.get("bias") or "none") != "none":
        reason = (
            f"its bias is {config['bias']!r}, and biases that were trained have no place here; only none is allowed"
        )
    elif other := next((key for key in _OTHER_PRODUCTS if config.get(key)), None):
        reason = f"with its {other} a module computes something else than W0 x + scale * B A x"
    if reason:
        raise HarnessError(f"The adapter cannot be read: {reason}.")


def _check_numbers(config: Mapping[str, Any]) -> None:
    """The rank is taken from the factors; one that nobody could have trained is a sign of what else may be wrong."""
    rank, dropout = config.get("r", 8), config.get("lora_dropout") or 0.0
    patterns = [config.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    if not _is_number(rank) or not isinstance(rank, int) or not 1 <= rank <= MOST_RANK:
        raise HarnessError(f"The adapter's r is {brief(repr(rank))}; allowed: a whole number from 1 to {MOST_RANK}.")
    if not _is_number(dropout) or not 0 <= dropout < 1:
        raise HarnessError(f"The adapter's lora_dropout is {brief(repr(dropout))}; allowed: a number in [0, 1).")
    if not all(isinstance(pattern, Mapping) for pattern in patterns):
        raise HarnessError("The adapter's rank_pattern and alpha_pattern must be objects of names and numbers.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST_RANK


def _sort(
    tensors: Mapping[str, Tensor], modules: Mapping[str, Any]
) -> tuple[dict[str, tuple[str, dict[str, Tensor]]], tuple[str, ...]]:
    """By the base's module the name in the file and A, B and perhaps m; and the names of what belongs to none."""
    found: dict[str, dict[str, Tensor]] = {}
    names: dict[str, str] = {}
    left_out = []
    for key, tensor in tensors.items():
        if len(key) > LONGEST_NAME:
            raise HarnessError(
                f"The adapter cannot be read: the tensor {brief(key, 80)} has a name that no module has."
            )
        match = _NAME.fullmatch(key)
        module = next(_endings(match["module"], modules), None) if match else None
        if match is None or module is None:
            left_out.append(key)
            continue
        names[module] = match["module"]
        found.setdefault(module, {})[match["factor"] or "m"] = tensor
    if halves := [names[module] for module, parts in found.items() if not {"A", "B"} <= parts.keys()]:
        raise HarnessError(f"The adapter is incomplete: {halves[0]} has not both lora_A and lora_B.")
    if inside := [key for key in left_out if any(_holders(key, modules))]:
        raise HarnessError(f"The adapter cannot be read: {inside[0]} is no lora_A, lora_B or magnitude of its module.")
    return {m: (names[m], parts) for m, parts in found.items()}, tuple(sorted(left_out))


def _holders(tensor: str, modules: Mapping[str, Any]) -> Iterator[str]:
    """Modules that a tensor, by its name in the file, is inside of."""
    parts = tensor.split(".")
    return (module for end in range(1, len(parts)) for module in _endings(".".join(parts[:end]), modules))


def _endings(name: str, modules: Mapping[str, Any]) -> Iterator[str]:
    """Modules that `name` names, whatever the models are called around the backbone."""
    parts = name.split(".")
    return (ending for at in range(len(parts)) if (ending := ".".join(parts[at:])) in modules)


def _check_tensors(name: str, tensors: Mapping[str, Tensor], projection: Projection, *, dora: bool) -> None:
    a, b = tensors["A"], tensors["B"]
    wanted = f"r x {projection.d_in} and {projection.module_out} x r"
    good = a.dim() == b.dim() == 2 and (a.shape[1], b.shape[0]) == (projection.d_in, projection.module_out)
    if not good or a.shape[0] != b.shape[1] or a.shape[0] < 1:
        shapes = " and ".join(" x ".join(map(str, factor.shape)) for factor in (a, b))
        raise HarnessError(f"The adapter does not fit the base: A and B of {name} are {shapes}, not {wanted}.")
    if dora != ("m" in tensors) or (dora and tensors["m"].shape != (projection.module_out,)):
        raise HarnessError(
            f"The adapter does not fit the base: with use_dora {name} needs a lora_magnitude_vector of "
            f"{projection.module_out} numbers, and without it none."
        )
    if not all(t.is_floating_point() and t.isfinite().all() for t in tensors.values()):
        raise HarnessError(f"The adapter is damaged: A, B or m of {name} holds values that are no finite numbers.")


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    try:
        patterns = config.get("alpha_pattern") or {}
        own = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({_safe(key)})$", name))
        alpha = next(own, config.get("lora_alpha", 8))
        if not _is_number(alpha):
            raise ValueError(f"{brief(repr(alpha))} is no number of at most {MOST_RANK}")
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise HarnessError(f"The adapter's lora_alpha or alpha_pattern cannot be read: {error}.") from error
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _safe(pattern: str) -> str:
    """A pattern that names modules; others could take for ever to match.

    Raises:
        ValueError: it repeats groups, or more than that names need.
    """
    repetitions = len(re.findall(r"[*+]", pattern))
    if not _PATTERN.fullmatch(pattern) or _REPEATED_GROUP.search(pattern) or repetitions > MOST_REPETITIONS:
        raise ValueError(f"the pattern {brief(repr(pattern))} is not the name of a module, or of several")
    return pattern


def _split(
    group: Sequence[Projection], tensors: Mapping[str, Tensor], scale: float, dropout: float
) -> dict[str, LowRank]:
    """One module's adapter as those of its letters."""
    a, b, m = tensors["A"], tensors["B"], tensors.get("m")
    fused = len(group) > 1 or group[0].d_out != group[0].module_out
    adapters = {}
    for p in group:
        rows = p.rows.take(b, 0)
        # Where B is zero as a whole, as before training, nothing tells which columns are whose.
        used = rows.any(dim=0) if fused and b.any() else torch.ones(len(a), dtype=torch.bool)
        if m is not None and not used.any():
            # Its m may well be trained.
            used[0] = True
        if used.any():
            own_a, own_b = (_frozen(t) for t in (a[used], rows[:, used]))
            own_m = None if m is None else _frozen(p.rows.take(m, 0))
            adapters[p.key] = LowRank(own_a, own_b, scale, p.rows, dropout, own_m)
    return adapters


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.contiguous(), requires_grad=False)
