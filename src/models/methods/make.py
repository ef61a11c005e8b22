"""From a cell to its method."""

from __future__ import annotations

import torch

from src.adapters.budget import Allocation
from src.models.loading import Base
from src.models.methods.adapter_layers import AdapterLayers
from src.models.methods.method import Method
from src.models.methods.prefix import Prefix
from src.models.methods.subspace import RandomSubspace
from src.models.methods.unfrozen import Unfrozen, bias_names
from src.models.methods.used import used_names
from src.spec import RunSpec


def make_method(base: Base, spec: RunSpec, allocation: Allocation, *, dtype: torch.dtype) -> Method | None:
    """A lane's method at the start of training; None where LoRA or the head alone is trained.

    Args:
        base: bare: nothing attached to it yet.
        allocation: with the method's size.
        dtype: of what is trained.

    Raises:
        ConfigError: a method that the model cannot have.
    """
    size, seed = allocation.size or 0, spec.seed
    match spec.method.name:
        case "full":
            return Unfrozen(base, used_names(base), dtype=dtype)
        case "bitfit":
            return Unfrozen(base, bias_names(base), dtype=dtype)
        case "adapter_h" | "adapter_l" as design:
            return AdapterLayers(base, design, size, dtype=dtype, seed=seed)
        case "prefix" | "lora_prefix":
            return Prefix(base, size, dtype=dtype, seed=seed)
        case "random_subspace":
            return RandomSubspace(base, size, said=spec.method.said, dtype=dtype, seed=seed)
        case "lora" | "head":
            return None
