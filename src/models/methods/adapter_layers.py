"""Adapter layers, with which the LoRA paper compares: small networks between the frozen ones that stay apart for good.

Two designs (Hu et al. 2021, section 5.1 and table 1, where they are Adapter^H and Adapter^L):

    adapter_h    after attention and after the MLP, before the residual is added (Houlsby et al. 2019, arXiv 1902.00751)
    adapter_l    only after the MLP, and after a LayerNorm of its own (Lin et al. 2020, arXiv 2004.03829)

With L layers of width d and bottleneck m: L (2 d m + m + d) parameters, and 2 d for each LayerNorm. Encoder-decoder
models have them in both stacks, adapter_h also after the attention to the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from src.adapters.projections import Projection
from src.errors import ConfigError
from src.models.loading import Base
from src.models.methods.method import Unchanged
from src.spec import Letter
from src.spec.seeds import derive_seed

Design = Literal["adapter_h", "adapter_l"]
AFTER: Mapping[Design, tuple[Letter, ...]] = {"adapter_h": ("o", "d"), "adapter_l": ("d",)}
# Houlsby et al. 2019, section 2.1 and 3.6: N(0, 0.01^2), cut at two standard deviations.
_STD = 0.01


class AdapterLayer(nn.Module):
    """h + W_up relu(W_down h), or with the norm h + W_up relu(W_down LayerNorm(h)), computed in h's precision.

    At the start W_up is zero, so that h passes exactly unchanged (Houlsby et al. start near that, with small numbers).

    Args:
        width: d, of h.
        bottleneck: m; W_down is m x d, W_up d x m.
        norm: whether a LayerNorm comes first.
        seed: of W_down.
    """

    def __init__(self, width: int, bottleneck: int, *, norm: bool, seed: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, device="cpu") if norm else None
        self.down = nn.utils.skip_init(nn.Linear, width, bottleneck)
        self.up = nn.utils.skip_init(nn.Linear, bottleneck, width)
        generator = Generator().manual_seed(seed)
        nn.init.trunc_normal_(self.down.weight, std=_STD, a=-2 * _STD, b=2 * _STD, generator=generator)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor) -> Tensor:
        """... x d to ... x d."""
        x = h
        if self.norm is not None:
            x = F.layer_norm(h, h.shape[-1:], self.norm.weight.to(h.dtype), self.norm.bias.to(h.dtype), self.norm.eps)
        return h + _linear(self.up, F.relu(_linear(self.down, x)))


class AdapterLayers(Unchanged):
    """The adapter layers of a whole model.

    Args:
        bottleneck: m of each.
        dtype: of what is trained.
    """

    def __init__(self, base: Base, design: Design, bottleneck: int, *, dtype: torch.dtype, seed: int = 0) -> None:
        self.layers: dict[str, AdapterLayer] = {}
        self._modules: list[nn.Module] = []
        self._handles: list[RemovableHandle] = []
        for place in places(base, design):
            own_seed = derive_seed(seed, "adapter layer", place.module)
            layer = AdapterLayer(place.module_out, bottleneck, norm=design == "adapter_l", seed=own_seed)
            module = base.backbone.get_submodule(place.module)
            weight = next(module.parameters())
            self.layers[place.module] = layer.to(weight.device, dtype)
            self._modules.append(module)

    def parameters(self) -> dict[str, nn.Parameter]:
        """By the module that the layer follows: ``<module>.down.weight``, ``<module>.norm.bias``, ..."""
        return {f"{place}.{name}": p for place, layer in self.layers.items() for name, p in layer.named_parameters()}

    def attach(self) -> None:
        """From now on what the frozen modules put out passes through the adapter layers."""
        for module, layer in zip(self._modules, self.layers.values(), strict=True):
            self._handles.append(module.register_forward_hook(_passing_through(layer)))

    def detach(self) -> None:
        """Undo `attach`."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def places(base: Base, design: Design) -> list[Projection]:
    """What the adapter layers follow: each W_o and W_d, or each W_d.

    Raises:
        ConfigError: the model's projections do not say where they are.
    """
    found = [p for p in base.projections if p.letter in AFTER[design]]
    missing = [letter for letter in AFTER[design] if letter not in {p.letter for p in found}]
    if missing:
        raise ConfigError(
            "method.name", design, f"methods that need no {' and '.join(missing)} among the model's projections; "
            "model.projections can name the modules"
        )  # fmt: skip
    return found


def num_parameters(base: Base, design: Design, bottleneck: int) -> int:
    """Of all adapter layers, by the formula above with each module's own width."""
    norm = 2 if design == "adapter_l" else 0
    widths = [place.module_out for place in places(base, design)]
    return sum(2 * width * bottleneck + bottleneck + width + norm * width for width in widths)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _passing_through(layer: nn.Module) -> Callable[[nn.Module, object, Tensor], Tensor]:
    return lambda _module, _inputs, output: layer(output)
