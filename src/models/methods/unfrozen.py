"""Methods that train the model's own parameters: full fine-tuning, and BitFit.

    full      every parameter that takes part (src/models/methods/used.py); tied weights once
    bitfit    every bias vector of the backbone, those of the LayerNorms too (Ben Zaken, Ravfogel and Goldberg 2021,
              arXiv 2106.10199, section 3)

What is trained is a copy in `dtype`, from which the values in the base's own precision are made anew in each pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import ConfigError
from src.models.loading import Base
from src.models.methods.method import Unchanged
from src.models.methods.used import used_names


class Unfrozen(Unchanged):
    """Trained copies of some of the base's parameters.

    Args:
        names: as in ``base.model.named_parameters()``.
    """

    def __init__(self, base: Base, names: Sequence[str], *, dtype: torch.dtype) -> None:
        own = dict(base.model.named_parameters())
        self._masters = {name: nn.Parameter(own[name].detach().to(dtype, copy=True)) for name in names}
        self._dtypes = {name: own[name].dtype for name in names}

    def parameters(self) -> dict[str, nn.Parameter]:
        """By the names that they have in the base."""
        return dict(self._masters)

    def weights(self) -> dict[str, Tensor]:
        """The trained values in the base's precision."""
        return {name: master.to(self._dtypes[name]) for name, master in self._masters.items()}


def bias_names(base: Base) -> tuple[str, ...]:
    """The bias vectors that BitFit trains.

    Raises:
        ConfigError: the architecture has none.
    """
    backbone = {id(parameter) for parameter in base.backbone.parameters()}
    own = dict(base.model.named_parameters())
    names = tuple(n for n in used_names(base) if n.rpartition(".")[2] == "bias" and id(own[n]) in backbone)
    if not names:
        config: Any = base.model.config
        allowed = f"another method, such as lora or adapter_l: a {config.model_type} model has no biases"
        raise ConfigError("method.name", "bitfit", allowed)
    return names


def num_parameters(base: Base, names: Sequence[str]) -> int:
    """Elements of the named parameters."""
    own = dict(base.model.named_parameters())
    return sum(own[name].numel() for name in names)
