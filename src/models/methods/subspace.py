"""Random-subspace training (Aghajanyan, Zettlemoyer and Gupta 2020, arXiv 2012.13255, section 3; Li et al. 2018,
arXiv 1804.08838): the model moves only within a random subspace of d dimensions.

    DID     theta = theta_0 + P theta_d
    SAID    theta_i = theta_0i + lambda_i (P theta_d-m)_i    for each of m layers i, the m scales trained too

P is Fastfood (src/adapters/fastfood.py), drawn on its own for each parameter tensor; theta_d starts at 0, lambda at 1.
The base's parameters are those that full fine-tuning trains. A layer is one of the transformer's; what stands outside
all of them (embeddings, last norm, output) counts as one more. d counts all that is trained, the scales too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.adapters.fastfood import Fastfood
from src.models.loading import Base
from src.models.methods.method import Unchanged
from src.models.methods.used import used_names
from src.spec.seeds import derive_seed

_LAYER = re.compile(r".*?\.\d+(?=\.)")


@dataclass(frozen=True)
class _Moved:
    """One parameter of the base, theta_0, with its own rows of P and its layer's number."""

    theta_0: Tensor
    matrix: Fastfood
    layer: int


class RandomSubspace(Unchanged):
    """Trained coordinates of a random subspace.

    Args:
        size: d, of which each layer's scale takes one with `said`.
        said: whether each layer's scale is trained (SAID), or there is none (DID).
        dtype: of what is trained, and to compute P in.
    """

    def __init__(self, base: Base, size: int, *, said: bool, dtype: torch.dtype, seed: int = 0) -> None:
        own, names = dict(base.model.named_parameters()), used_names(base)
        layers = layer_names(names)
        device = own[names[0]].device
        self._theta = nn.Parameter(torch.zeros(size - said * len(layers), device=device, dtype=dtype))
        self._scale = nn.Parameter(torch.ones(len(layers), device=device, dtype=dtype)) if said else None
        self._dtype = dtype
        self._moved: dict[str, _Moved] = {}
        for name in names:
            own_seed = derive_seed(seed, "subspace", name)
            matrix = Fastfood(own[name].numel(), len(self._theta), own_seed, device=device, dtype=dtype)
            self._moved[name] = _Moved(own[name].detach(), matrix, layers.index(_layer_of(name)))

    def parameters(self) -> dict[str, nn.Parameter]:
        """``subspace.theta``, and with SAID ``subspace.scale``."""
        scale = {} if self._scale is None else {"subspace.scale": self._scale}
        return {"subspace.theta": self._theta, **scale}

    def constants(self) -> list[Tensor]:
        """What P is made of."""
        return [tensor for moved in self._moved.values() for tensor in moved.matrix.constants()]

    def weights(self) -> dict[str, Tensor]:
        """theta in the base's precision."""
        return {name: self._move(moved) for name, moved in self._moved.items()}

    def _move(self, moved: _Moved) -> Tensor:
        start, step = moved.theta_0.to(self._dtype), moved.matrix.project(self._theta).view(moved.theta_0.shape)
        theta = start + step if self._scale is None else torch.addcmul(start, self._scale[moved.layer], step)
        return theta.to(moved.theta_0.dtype)


def layer_names(names: tuple[str, ...]) -> list[str]:
    """The layers of the named parameters, in order; the empty name is what stands outside of them."""
    return list(dict.fromkeys(map(_layer_of, names)))


def _layer_of(name: str) -> str:
    """``encoder.layer.3`` of ``encoder.layer.3.output.dense.weight``."""
    match = _LAYER.match(name)
    return "" if match is None else match[0]
