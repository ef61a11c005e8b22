"""Attach adapters to named projections, and take them off again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from src.adapters.lora_linear import LoraLinear, Roster
from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection

LaneAdapters = Mapping[str, LowRank]


def attach(
    backbone: nn.Module, lanes: Sequence[tuple[Sequence[Projection], LaneAdapters]], roster: Roster
) -> list[LoraLinear]:
    """Replace each adapted module of the backbone by one LoraLinear that holds all lanes' adapters.

    Returns:
        The new layers, by first use.
    """
    layers: dict[str, LoraLinear] = {}
    for lane, (projections, adapters) in enumerate(lanes):
        for projection in projections:
            if projection.module not in layers:
                module = backbone.get_submodule(projection.module)
                layer = LoraLinear(module, roster, decodes=projection.decodes, shared_rows=projection.shared_rows)
                layers[projection.module] = layer
                replace_module(backbone, projection.module, layer)
            layers[projection.module].add(lane, adapters[projection.key])
    return list(layers.values())


def detach(backbone: nn.Module) -> None:
    """Put the frozen modules back in place of all LoraLinear layers."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoraLinear):
            module.unmerge()
            replace_module(backbone, name, module.base)


def replace_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one with this dotted name."""
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
