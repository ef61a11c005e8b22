"""What is to be known of each method by its name alone."""

from __future__ import annotations

from collections.abc import Mapping

from src.spec.run import MethodName

# The letter of a method's size: m of adapter layers and tokens of a prefix, d of a random subspace.
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
