"""Adapters at the start of training: drawn, or made from the weights that they adapt."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection, is_transposed
from src.spec import LoraSpec
from src.spec.run import Init
from src.spec.seeds import derive_seed


class FrozenWeights:
    """W0 of the projections of one backbone, and their singular values, computed once for all lanes of a pack."""

    def __init__(self, backbone: nn.Module) -> None:
        self._backbone = backbone
        self._svds: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    @property
    def device(self) -> torch.device:
        """Where the backbone lies."""
        return next(self._backbone.parameters()).device

    def wide(self, projection: Projection) -> Tensor:
        """W0, d_out x d_in, in float32 or better."""
        weight = weight_of(self._backbone, projection)
        return weight.to(torch.promote_types(weight.dtype, torch.float32))

    def svd(self, projection: Projection) -> tuple[Tensor, Tensor, Tensor]:
        """U, S and V^T of W0 in float32 or better."""
        if projection.key not in self._svds:
            self._svds[projection.key] = tuple(torch.linalg.svd(self.wide(projection), full_matrices=False))
        return self._svds[projection.key]


def weight_of(backbone: nn.Module, projection: Projection) -> Tensor:
    """W of a letter, d_out x d_in, also where the module's weight is fused or transposed."""
    return projection.rows.take(_whole_weight(backbone, projection), 0)


def write_weight(backbone: nn.Module, projection: Projection, weight: Tensor) -> None:
    """Put `weight` (d_out x d_in) in place of W of a letter."""
    projection.rows.copy_(_whole_weight(backbone, projection), weight, 0)


def _whole_weight(backbone: nn.Module, projection: Projection) -> Tensor:
    module = backbone.get_submodule(projection.module)
    weight = module.weight
    assert isinstance(weight, Tensor)
    return (weight.T if is_transposed(module) else weight).detach()


def make_adapters(
    projections: Sequence[Projection],
    ranks: Sequence[int],
    lora: LoraSpec,
    seed: int,
    weights: FrozenWeights,
    *,
    dtype: torch.dtype,
) -> dict[str, LowRank]:
    """A lane's adapters at the start of training, by projection key; the model computes what it computed before.

    A is drawn and B zero, or both come from W0 (PiSSA). Every projection draws A from a stream of its own.
    """
    return {
        p.key: _make_adapter(p, rank, lora, derive_seed(seed, "adapter", p.key), weights).to(weights.device, dtype)
        for p, rank in zip(projections, ranks, strict=True)
    }


def starting_a(projections: Sequence[Projection], ranks: Sequence[int], lora: LoraSpec, seed: int) -> dict[str, Tensor]:
    """A (r x d_in, float32) by projection key as `make_adapters` draws it; nothing of the base is needed for it."""
    return {
        p.key: _start_of_a(lora.init, rank, p.d_in, derive_seed(seed, "adapter", p.key))
        for p, rank in zip(projections, ranks, strict=True)
    }


def _make_adapter(projection: Projection, rank: int, lora: LoraSpec, seed: int, weights: FrozenWeights) -> LowRank:
    scale, origin, magnitude = lora.alpha / (math.sqrt(rank) if lora.rslora else rank), None, None
    if lora.init == "pissa":
        a, b = _principal_factors(weights.svd(projection), rank, scale)
        frozen = [nn.Parameter(factor, requires_grad=False) for factor in (a, b)]
        origin = LowRank(frozen[0], frozen[1], -scale, projection.rows, dropout=0.0)
    else:
        a, b = _start_of_a(lora.init, rank, projection.d_in, seed), torch.zeros(projection.d_out, rank)
    if lora.dora:
        magnitude = nn.Parameter(torch.linalg.vector_norm(weights.wide(projection), dim=1))
    return LowRank(nn.Parameter(a), nn.Parameter(b), scale, projection.rows, lora.dropout, magnitude, origin)


def _principal_factors(svd: tuple[Tensor, Tensor, Tensor], rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A and B with scale * B A = W0 cut to its top r singular triplets (Meng et al. 2024, eq. 2 and 3)."""
    u, s, vt = svd
    roots = (s[:rank] / scale).sqrt()
    return (roots.unsqueeze(1) * vt[:rank]).contiguous(), (u[:, :rank] * roots).contiguous()


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
