"""A trained task head on its own, apart from the lane that trained it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from src.errors import HarnessError
from src.models.heads import pool
from src.spec.run import Pooling


@dataclass(frozen=True)
class TaskHead:
    """What turns an adapter's hidden states into its predictions.

    Attributes:
        weight: C x d.
        bias: C.
        pooling: how token states become one vector.
    """

    weight: Tensor
    bias: Tensor
    pooling: Pooling = "mean"

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Logits b x C, of hidden states b x L x d and their mask b x L."""
        return F.linear(pool(hidden.to(self.weight.dtype), mask, self.pooling), self.weight, self.bias)


def read_head(file: Path, pooling: Pooling = "mean") -> TaskHead:
    """A run's head.safetensors.

    Raises:
        HarnessError: it cannot be read or is no head.
    """
    try:
        tensors = load_file(file)
        return TaskHead(tensors["head.weight"], tensors["head.bias"], pooling)
    except (OSError, SafetensorError, KeyError) as error:
        raise HarnessError(f"{file} is no task head that can be read: {error}.") from error
