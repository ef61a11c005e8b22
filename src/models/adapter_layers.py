"""Adapter layers, LoRA's rivals in its paper: small networks between the frozen ones, which no merging can take away.

Two designs (Hu et al. 2021, section 5.1 and table 1):

    houlsby    after attention and after the MLP, before the residual is added (Houlsby et al. 2019, arXiv 1902.00751)
    lin        only after the MLP, and after a LayerNorm (Lin et al. 2020, arXiv 2004.03829)

Here they are built to be timed, not trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from src.models.loading import Base
from src.spec import Letter

Design = Literal["houlsby", "lin"]
AFTER: Mapping[Design, tuple[Letter, ...]] = {"houlsby": ("o", "d"), "lin": ("d",)}


class AdapterLayer(nn.Module):
    """h + W_up relu(W_down h), or with the norm h + W_up relu(W_down LayerNorm(h)).

    W_up is zero at the start, so that h passes unchanged.

    Args:
        width: d, of h.
        bottleneck: m; W_down is m x d, W_up d x m.
        norm: whether a LayerNorm comes first.
    """

    def __init__(self, width: int, bottleneck: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: Tensor) -> Tensor:
        """... x d to ... x d."""
        return h + self.up(F.relu(self.down(self.norm(h))))


class AdapterLayers:
    """The adapter layers of a whole model.

    Args:
        base: their width, precision and device are its.
        bottleneck: m of each.
    """

    def __init__(self, base: Base, design: Design, bottleneck: int, *, seed: int = 0) -> None:
        weight = next(base.model.parameters())
        places = [p for p in base.projections if p.letter in AFTER[design]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [AdapterLayer(p.d_out, bottleneck, norm=design == "lin") for p in places]
        self._layers = nn.ModuleList(layers).to(weight.device, weight.dtype).requires_grad_(False)
        self._modules = [base.backbone.get_submodule(p.module) for p in places]
        self._handles: list[RemovableHandle] = []

    @property
    def num_parameters(self) -> int:
        """L x (2 d m + m + d), and 2 d for each LayerNorm, with L layers of each kind."""
        return sum(parameter.numel() for parameter in self._layers.parameters())

    def insert(self) -> None:
        """From now on what the frozen modules put out passes through the adapter layers."""
        for module, layer in zip(self._modules, self._layers, strict=True):
            self._handles.append(module.register_forward_hook(_passing_through(layer)))

    def remove(self) -> None:
        """Undo `insert`."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _passing_through(layer: nn.Module) -> Callable[[nn.Module, object, Tensor], Tensor]:
    return lambda _module, _inputs, output: layer(output)
