"""A backbone's repeated layers in order, found by where its projections are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from src.adapters.projections import Projection


def find_layers(backbone: nn.Module, projections: Sequence[Projection]) -> dict[str, tuple[nn.Module, ...]] | None:
    """The layers by stack: encoder-decoder models have ``encoder`` and ``decoder`` (with its cross-attention), or the
    one of them that has projections; others have one stack, without a name.

    Args:
        backbone: bare, or with adapters attached; its layers are the entries of a ModuleList.
        projections: of this backbone.

    Returns:
        None where the projections do not lie in layers of that kind, as with a `model.projections` that names modules
        one by one.
    """
    names: dict[str, set[str]] = {}
    for projection in projections:
        stack = "decoder" if projection.stack == "cross" else projection.stack
        found = list_of(backbone, projection)
        if found is None:
            return None
        names.setdefault(stack, set()).add(found)
    if not names or any(len(found) > 1 for found in names.values()):
        return None
    return {stack: tuple(backbone.get_submodule(found.pop()).children()) for stack, found in names.items()}


def list_of(backbone: nn.Module, projection: Projection) -> str | None:
    """Name of the ModuleList whose entry number `projection.layer` holds the module; None where there is none."""
    parts = projection.module.split(".")
    # From the outside in: T5's layers hold lists of their own.
    for at, part in enumerate(parts):
        name = ".".join(parts[:at])
        if part == str(projection.layer) and isinstance(backbone.get_submodule(name), nn.ModuleList):
            return name
    return None
