"""Which output units of a weight belong to one letter, where several letters share the weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """`blocks` runs of `size / blocks` units, `stride` apart; a plain slice where there is one run.

    GPT-2's c_attn holds all of W_q, then W_k, then W_v: one run. GPT-NeoX's and BLOOM's query_key_value goes head by
    head (q, k, v of the first head, of the second ...): for each letter a run of head_dim units in every 3 head_dim.

    Attributes:
        start: first unit.
        size: units in all, d_out of the letter.
        blocks: runs.
        stride: units from the start of one run to that of the next; 0 where there is one run.
    """

    start: int
    size: int
    blocks: int = 1
    stride: int = 0

    @property
    def run(self) -> int:
        """Units of one run."""
        return self.size // self.blocks

    def view(self, tensor: Tensor, dim: int) -> Tensor:
        """The letter's part of `tensor` along `dim`, without a copy.

        Returns:
            With one run `dim` has `size` units; with more, it becomes two dimensions, blocks x run.
        """
        if self.blocks == 1:
            return tensor.narrow(dim, self.start, self.size)
        dim %= tensor.dim()
        first = tensor.narrow(dim, self.start, (self.blocks - 1) * self.stride + self.run)
        shape = (*tensor.shape[:dim], self.blocks, self.run, *tensor.shape[dim + 1 :])
        step = tensor.stride(dim)
        strides = (*tensor.stride()[:dim], self.stride * step, step, *tensor.stride()[dim + 1 :])
        return first.as_strided(shape, strides)

    def take(self, tensor: Tensor, dim: int) -> Tensor:
        """The letter's part with `size` units along `dim`; a copy only where there are several runs."""
        part = self.view(tensor, dim)
        return part if self.blocks == 1 else part.flatten(dim % tensor.dim(), dim % tensor.dim() + 1)

    def add_(self, tensor: Tensor, part: Tensor, dim: int) -> None:
        """Add `part`, which has `size` units along `dim`, to the letter's part of `tensor` in place."""
        self.view(tensor, dim).add_(self._folded(part, dim))

    def copy_(self, tensor: Tensor, part: Tensor, dim: int) -> None:
        """Write `part`, which has `size` units along `dim`, to the letter's part of `tensor`."""
        self.view(tensor, dim).copy_(self._folded(part, dim))

    def index(self) -> Tensor:
        """int64 [size], the units in the letter's own order."""
        starts = self.start + self.stride * torch.arange(self.blocks)
        return (starts[:, None] + torch.arange(self.run)).flatten()

    def _folded(self, part: Tensor, dim: int) -> Tensor:
        return part if self.blocks == 1 else part.unflatten(dim, (self.blocks, self.run))
