"""Attach adapters to named projections, and take them off again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from src.adapters.lora_linear import LoraLinear, Roster
from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection
from src.spec import LoraSpec
from src.spec.run import Init
from src.spec.seeds import derive_seed

LaneAdapters = Mapping[str, LowRank]


def make_adapters(
    projections: Sequence[Projection], lora: LoraSpec, rank: int, seed: int, *, device: torch.device, dtype: torch.dtype
) -> dict[str, LowRank]:
    """A lane's adapters at the start of training, by projection key: A drawn, B zero, so delta W = 0.

    Every projection draws A from a stream of its own.
    """
    return {
        p.key: LowRank(
            a=nn.Parameter(_start_of_a(lora.init, rank, p.d_in, derive_seed(seed, "adapter", p.key)).to(device, dtype)),
            b=nn.Parameter(torch.zeros(p.d_out, rank, device=device, dtype=dtype)),
            scale=lora.alpha / rank,
            start=p.start,
            dropout=lora.dropout,
        )
        for p in projections
    }


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
                layer = LoraLinear(backbone.get_submodule(projection.module), roster)
                layers[projection.module] = layer
                _replace(backbone, projection.module, layer)
            layers[projection.module].add(lane, adapters[projection.key])
    return list(layers.values())


def detach(backbone: nn.Module) -> None:
    """Put the frozen modules back in place of all LoraLinear layers."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoraLinear):
            module.unmerge()
            _replace(backbone, name, module.base)


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)


def _start_of_a(init: Init, rank: int, d_in: int, seed: int) -> Tensor:
    """r x d_in in float32 on the CPU, so that a seed means the same numbers on every device and in every dtype.

    gaussian: N(0, 1 / d_in) (the paper says Gaussian and gives no variance; this one does not change with r).
    kaiming: uniform in +-1 / sqrt(d_in), which is Kaiming's with a = sqrt(5), as in the paper's released code.
    """
    generator = torch.Generator().manual_seed(seed)
    bound = 1.0 / math.sqrt(d_in)
    if init == "gaussian":
        return torch.empty(rank, d_in).normal_(0.0, bound, generator=generator)
    return torch.empty(rank, d_in).uniform_(-bound, bound, generator=generator)
