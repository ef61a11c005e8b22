"""Which examples a lane sees at which step: a pure function of its seed, so a resumed run needs only the step."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from src.data import Batch, TaskData, collate, epoch_batches
from src.spec import TrainerSpec
from src.spec.seeds import derive_seed


class DataOrder:
    """Batches by seed and step; lanes with the same seed share them.

    Attributes:
        steps_per_epoch: optimiser steps in one pass over train.
    """

    def __init__(self, data: TaskData, trainer: TrainerSpec) -> None:
        self.data, self.trainer = data, trainer
        self.steps_per_epoch = steps_per_epoch(data, trainer)
        self._epoch = functools.lru_cache(maxsize=64)(self._make_epoch)
        self._batches = functools.lru_cache(maxsize=64)(self._make_batches)

    def batches(self, seed: int, step: int) -> tuple[Batch, ...]:
        """The micro-batches of an optimiser step (0-based, over all epochs)."""
        return self._batches(seed, step)

    def validation_due(self, step: int, total_steps: int) -> bool:
        """Whether to validate after `step` steps: at the chosen interval, and always at the end."""
        return step >= total_steps or step % (self.trainer.eval_every or self.steps_per_epoch) == 0

    def lengths(self, seed: int) -> Tensor:
        """Tokens of the longest example in each batch of a seed's first epoch: int64 [steps_per_epoch]."""
        return torch.stack([self.data.train.lengths[rows].max() for rows in self._epoch(seed, 0)])

    def _make_epoch(self, seed: int, epoch: int) -> list[Tensor]:
        lengths = self.data.train.lengths
        return epoch_batches(lengths, self.trainer.batch_size, derive_seed(seed, "data"), epoch)

    def _make_batches(self, seed: int, step: int) -> tuple[Batch, ...]:
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = self._epoch(seed, epoch)[position]
        pieces = rows.chunk(min(self.trainer.accumulation, len(rows)))
        return tuple(collate(self.data.train, piece, self.data.pad_id) for piece in pieces)


def steps_per_epoch(data: TaskData, trainer: TrainerSpec) -> int:
    """Optimiser steps in one pass; the last batch may be smaller."""
    return math.ceil(len(data.train) / trainer.batch_size)


def total_steps(data: TaskData, trainer: TrainerSpec) -> int:
    """Optimiser steps of a whole run."""
    return trainer.max_steps or trainer.epochs * steps_per_epoch(data, trainer)
