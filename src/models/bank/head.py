"""A trained task head on its own, apart from the lane that trained it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

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
        HarnessError: it cannot be read, is no head, or holds values that are no finite numbers.
    """
    try:
        tensors = load_file(file)
        head = TaskHead(tensors["head.weight"], tensors["head.bias"], pooling)
    except (OSError, SafetensorError, KeyError) as error:
        raise HarnessError(f"{file} is no task head that can be read: {error}.") from error
    if not (head.weight.isfinite().all() and head.bias.isfinite().all()):
        raise HarnessError(f"{file} is damaged: it holds values that are no finite numbers.")
    return head


def saved_pooling(folder: Path) -> Pooling | None:
    """What the head.json says that an exported adapter has beside its head; None where there is no such file.

    Raises:
        HarnessError: it cannot be read, or names no pooling that is known.
    """
    file, known = folder / "head.json", get_args(Pooling)
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_bytes())["pooling"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise HarnessError(f"{file} cannot be read: {error}.") from error
    if found not in known:
        raise HarnessError(f"{file} has pooling {found!r}; allowed: {', '.join(known)}.")
    return cast(Pooling, found)
