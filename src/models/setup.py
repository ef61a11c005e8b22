"""From a spec and the outline of its model to what a lane adapts and how large that is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from src.adapters.budget import Allocation, allocate
from src.adapters.projections import Projection, in_stacks, select_projections
from src.models.loading import Base
from src.models.methods.sizes import allocate_method
from src.spec import WITH_LORA, RunSpec, expand_targets


@dataclass(frozen=True)
class LaneSetup:
    """A cell whose sizes have been worked out against its model.

    Attributes:
        spec: with letters in place of words.
        projections: those that get LoRA; empty for other methods.
    """

    spec: RunSpec
    projections: tuple[Projection, ...]
    allocation: Allocation


def set_up(spec: RunSpec, base: Base) -> LaneSetup:
    """Resolve a canonical spec against its model's real shapes.

    Args:
        base: the model, or its outline.

    Raises:
        ConfigError: targets, layers, ranks, size or budget do not fit the model.
    """
    if spec.method.name not in WITH_LORA:
        return LaneSetup(spec, (), allocate_method(spec, base))
    here = in_stacks(base.projections, spec.lora.stacks)
    letters = expand_targets(spec.lora.targets, {p.letter for p in here})
    projections = select_projections(base.projections, letters, spec.lora.layers, spec.lora.stacks)
    resolved = dataclasses.replace(spec, lora=dataclasses.replace(spec.lora, targets=letters))
    taken = allocate_method(resolved, base) if spec.method.name == "lora_prefix" else None
    return LaneSetup(resolved, projections, allocate(spec.lora, projections, taken))
