"""Attach adapters to named projections, and take them off again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from src.adapters.lora_linear import LoraLinear, Roster
from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection

LaneAdapters = Mapping[str, LowRank]


def attach(
    backbone: nn.Module, lanes: Sequence[tuple[Sequence[Projection], LaneAdapters]], roster: Roster, first: int = 0
) -> list[LoraLinear]:
    """Replace each adapted module of the backbone by one LoraLinear that holds all lanes' adapters.

    Args:
        first: number of the first lane; lanes that are attached already stay as they are.

    Returns:
        The layers that these lanes use, by first use.
    """
    layers: dict[str, LoraLinear] = {}
    for lane, (projections, adapters) in enumerate(lanes, start=first):
        for projection in projections:
            if projection.module not in layers:
                layers[projection.module] = _adapted(backbone, projection, roster)
            layers[projection.module].add(lane, adapters[projection.key])
    return list(layers.values())


def detach_lane(backbone: nn.Module, lane: int) -> None:
    """Take one lane's adapters off; a module that no other lane adapts is put back."""
    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, LoraLinear) and lane in layer.adapters:
            del layer.adapters[lane]
            if not layer.adapters:
                replace_module(backbone, name, layer.base)


def detach(backbone: nn.Module) -> None:
    """Put the frozen modules back in place of all LoraLinear layers."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoraLinear):
            module.unmerge()
            replace_module(backbone, name, module.base)


def _adapted(backbone: nn.Module, projection: Projection, roster: Roster) -> LoraLinear:
    module = backbone.get_submodule(projection.module)
    if isinstance(module, LoraLinear):
        if module.roster is not roster:
            raise RuntimeError(f"{projection.module} carries the adapters of another model, which was not detached")
        return module
    layer = LoraLinear(module, roster, decodes=projection.decodes, shared_rows=projection.shared_rows)
    replace_module(backbone, projection.module, layer)
    return layer


def replace_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one with this dotted name."""
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
