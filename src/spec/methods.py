"""What is to be known of each method by its name alone."""

from __future__ import annotations

from collections.abc import Mapping

from src.spec.run import LoraSpec, MethodName

# Letter of the size: m as in the LoRA paper's adapters, also for a prefix's tokens; d as in Aghajanyan et al. 2020.
SIZE_UNIT: Mapping[MethodName, str] = {
    "adapter_h": "m",
    "adapter_l": "m",
    "prefix": "m",
    "lora_prefix": "m",
    "random_subspace": "d",
}
# What `lora.budget` or `method.size` decides.
SIZED: tuple[MethodName, ...] = tuple(SIZE_UNIT)
WITH_LORA: tuple[MethodName, ...] = ("lora", "lora_prefix")
# They train the model's own parameters as they are, and so have one size only.
UNFROZEN: tuple[MethodName, ...] = ("full", "bitfit")
# What they learn is other values of the model's own parameters.
NEW_WEIGHTS: tuple[MethodName, ...] = (*UNFROZEN, "random_subspace")


def kin_of(lora: LoraSpec) -> tuple[str, ...]:
    """What sets adapters apart from plain LoRA: ``dora``, ``rslora``, ``plus``, ``pissa``; empty for plain LoRA."""
    used = {"dora": lora.dora, "rslora": lora.rslora, "plus": lora.b_lr_ratio != 1, "pissa": lora.init == "pissa"}
    return tuple(name for name, is_used in used.items() if is_used)
