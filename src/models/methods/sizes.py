"""A method's parameters from its size, and its size from a budget; from shapes alone, so that an outline will do."""

from __future__ import annotations

from collections.abc import Callable

from src.adapters.budget import Allocation
from src.errors import ConfigError
from src.models.loading import Base, max_positions
from src.models.methods import adapter_layers, prefix
from src.models.methods.subspace import layer_names
from src.models.methods.unfrozen import bias_names, num_parameters
from src.models.methods.used import used_names
from src.spec import RunSpec

# A subspace larger than that takes more memory and time than full fine-tuning, which it is there to stay below.
LARGEST_SUBSPACE = 2**18


def allocate_method(spec: RunSpec, base: Base) -> Allocation:
    """What a method other than plain LoRA trains besides the head; of ``lora_prefix`` the prefix's share.

    With ``lora.budget`` the size is the largest that fits, at most the largest that the model can have.

    Raises:
        ConfigError: a method that the model cannot have, a size outside of what it can have, or a budget below the
            smallest size.
    """
    match spec.method.name:
        case "full":
            return Allocation(0, num_parameters(base, used_names(base)))
        case "bitfit":
            return Allocation(0, num_parameters(base, bias_names(base)))
        case "adapter_h" | "adapter_l" as design:
            return _sized(spec, lambda size: adapter_layers.num_parameters(base, design, size), 1, None, "")
        case "prefix" | "lora_prefix":
            return _prefix(spec, base)
        case "random_subspace":
            return _subspace(spec, base)
        case name:
            raise ValueError(f"{name} has no size of its own")


def _prefix(spec: RunSpec, base: Base) -> Allocation:
    one, positions = prefix.num_parameters(base, 1), max_positions(base)
    if positions is None:
        return _sized(spec, lambda size: size * one, 1, None, "")
    task = spec.task
    # An encoder reads the prompt where there is one; else what is written follows it.
    read = 1 if task.kind == "seq2seq" else task.max_length
    text = max(task.max_length, read + task.max_new_tokens) if task.generate else task.max_length
    if text >= positions:
        allowed = f"shorter texts, so that some of the model's {positions} positions are left for a prefix"
        raise ConfigError("task.max_length", task.max_length, allowed)
    why = f", what {text} tokens of text leave of the model's {positions} positions"
    return _sized(spec, lambda size: size * one, 1, positions - text, why)


def _subspace(spec: RunSpec, base: Base) -> Allocation:
    names = used_names(base)
    scales = len(layer_names(names)) if spec.method.said else 0
    why = f", of which {scales} are the layers' scales (method.said)" if scales else ""
    most = min(num_parameters(base, names), LARGEST_SUBSPACE)
    return _sized(spec, lambda size: size, scales + 1, most, why)


def _sized(spec: RunSpec, count: Callable[[int], int], least: int, most: int | None, why: str) -> Allocation:
    """Args:
    count: parameters of a size; linear in it.
    least, most: sizes that the model can have.
    why: what an error of the size adds on them.
    """
    size, requested = spec.method.size, None
    if size is None:
        size = requested = spec.lora.budget
        assert requested is not None
        if requested < count(least):
            raise ConfigError("lora.budget", requested, f"at least {count(least)}, {_smallest(spec, least)}")
        unit = count(least + 1) - count(least)
        size = least + (requested - count(least)) // unit
        size = size if most is None else min(size, most)
    elif size < least or (most is not None and size > most):
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        raise ConfigError("method.size", size, f"{allowed}{why}")
    return Allocation(0, count(size), requested, size=size)


def _smallest(spec: RunSpec, least: int) -> str:
    match spec.method.name:
        case "random_subspace":
            scales = ", one scale for each layer and one more" if spec.method.said else ""
            return f"the smallest d of a random_subspace{scales}"
        case "prefix":
            return "a prefix of one token"
        case name:
            return f"{name} with a bottleneck of {least}"
