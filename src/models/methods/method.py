"""What every method other than a plain set of LoRA adapters is to the model that carries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from torch.func import functional_call

Result = TypeVar("Result")


class Method(Protocol):
    """Trained values of one lane, and how they act on the frozen base."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained besides LoRA adapters and the head, by name."""

    def weights(self) -> dict[str, Tensor]:
        """Values that stand in for the base model's own parameters in this pass, by the names of
        ``base.model.named_parameters()``; differentiable in `parameters`. Empty where the base stays as it is."""

    def constants(self) -> list[Tensor]:
        """Frozen tensors that the method computes with and that are not the base's own."""

    def inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the backbone is called with, made from what it would be called with without the method."""

    def attach(self) -> None:
        """Put hooks into the base, where the method needs any."""

    def detach(self) -> None:
        """Undo `attach`."""


class Unchanged:
    """Nothing besides LoRA adapters and the head."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """None."""
        return {}

    def weights(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def constants(self) -> list[Tensor]:
        """None."""
        return []

    def inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As they are."""
        return inputs

    def attach(self) -> None:
        """Nothing to do."""

    def detach(self) -> None:
        """Nothing to undo."""


class _Whole(nn.Module):
    """Runs any work on a model from within a forward pass, the only thing that functional_call calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Result]) -> Result:
        return work()


def with_weights(model: nn.Module, weights: Mapping[str, Tensor], work: Callable[[], Result]) -> Result:
    """Do `work` while `weights` stand in for the model's parameters of these names, and for those tied to them."""
    if not weights:
        return work()
    named = {f"model.{name}": tensor for name, tensor in weights.items()}
    result: Result = functional_call(_Whole(model), named, (work,), tie_weights=True)
    return result
