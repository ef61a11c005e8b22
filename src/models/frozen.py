"""Linear layers of a frozen base: the same modules, names and weights, with faster products on CPUs."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from src.adapters.products import frozen_linear


class FrozenLinear(nn.Linear):
    """nn.Linear whose weight is frozen, unless a trained one stands in for it (torch.func.functional_call)."""

    def forward(self, input: Tensor) -> Tensor:
        if _is_trained(self):
            return super().forward(input)
        return frozen_linear(input, self.weight, self.bias)


class FrozenConv1D(Conv1D):
    """The same of transformers' Conv1D, which stores its weight as d_in x d_out."""

    def forward(self, x: Tensor) -> Tensor:
        if _is_trained(self):
            return super().forward(x)
        return frozen_linear(x, self.weight.T, self.bias)


def speed_up(model: nn.Module) -> None:
    """Let every linear layer of a frozen model compute as `frozen_linear` does; nothing else about it changes."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FrozenLinear
        elif type(module) is Conv1D:
            module.__class__ = FrozenConv1D


def _is_trained(module: nn.Module) -> bool:
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    return weight.requires_grad or (isinstance(bias, Tensor) and bias.requires_grad)
