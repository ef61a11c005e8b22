"""Fastfood: a fixed random matrix that is never formed (Le, Sarlos and Smola 2013, arXiv 1408.3060).

A square block is H G Pi H B: H the Walsh-Hadamard matrix with entries +1 and -1, G Gaussian and B +-1 on their
diagonals, Pi a permutation. Independent blocks stand one under the other until there are rows enough, and the last is
cut, as there; their Pi is shared here, for speed. The whole is divided so that its columns have length 1 in expectation
over the cut: a step of length 1 moves each tensor that has a P of its own by a length of 1.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

# Elements worked on at a time, so that they stay in a core's cache: three times faster on a CPU than all at once.
_CHUNK = 2**18
# Up to this length, 2^6, one matrix product is as fast as two smaller ones.
_MOST_BITS = 6


class Fastfood:
    """P, rows x columns.

    Args:
        seed: of B, G and Pi, which are drawn on the CPU, so that a seed means the same P on every device.
    """

    def __init__(self, rows: int, columns: int, seed: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self.rows, self.columns = rows, columns
        self.width = next_power_of_two(columns)
        shape = (math.ceil(rows / self.width), self.width)
        generator = Generator().manual_seed(seed)
        signs = 2 * torch.randint(0, 2, shape, dtype=torch.int8, generator=generator) - 1
        gaussian = torch.randn(shape, generator=generator)
        order = torch.randperm(self.width, generator=generator)
        self.divisor = math.sqrt(float(gaussian.double().square().sum()) * rows / shape[0])
        self._signs, self._gaussian = signs.to(device), gaussian.to(device, dtype)
        self._order, self._inverse = order.to(device), order.argsort().to(device)
        self._step = max(1, _CHUNK // self.width)

    def constants(self) -> tuple[Tensor, ...]:
        """B, G, Pi and its inverse."""
        return self._signs, self._gaussian, self._order, self._inverse

    def project(self, x: Tensor) -> Tensor:
        """P x, differentiable in x.

        Args:
            x: `columns`.

        Returns:
            `rows`.
        """
        result: Tensor = _Project.apply(x, self)
        return result

    def times(self, x: Tensor) -> Tensor:
        """P x, without a gradient."""
        padded = F.pad(x, (0, self.width - self.columns)) / self.divisor
        parts = []
        for signs, gaussian in self._chunks():
            middle = walsh_hadamard(signs * padded).index_select(1, self._order)
            parts.append(walsh_hadamard(middle * gaussian))
        return torch.cat(parts).flatten()[: self.rows]

    def transposed_times(self, y: Tensor) -> Tensor:
        """P^T y: `rows` to `columns`."""
        padded = F.pad(y, (0, self._signs.numel() - self.rows)).view_as(self._signs)
        total = torch.zeros(self.width, device=y.device, dtype=y.dtype)
        for block, (signs, gaussian) in enumerate(self._chunks()):
            part = padded[block * self._step :][: len(signs)]
            middle = (walsh_hadamard(part) * gaussian).index_select(1, self._inverse)
            total += (walsh_hadamard(middle) * signs).sum(dim=0)
        return total[: self.columns] / self.divisor

    def _chunks(self) -> zip[tuple[Tensor, Tensor]]:
        return zip(self._signs.split(self._step), self._gaussian.split(self._step), strict=True)


class _Project(torch.autograd.Function):
    """A linear map's gradient is its transpose; nothing needs to be saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Fastfood) -> Tensor:
        ctx.matrix = matrix
        return matrix.times(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.matrix.transposed_times(grads[0]), None


def next_power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()


def walsh_hadamard(x: Tensor) -> Tensor:
    """x H along the last dimension, whose length is a power of two.

    H of length a b c is the Kronecker product of those of lengths a, b and c: a few small dense products, which fit the
    hardware better than the log2(a b c) passes over memory of the fast transform.

    Args:
        x: n x w.
    """
    left, after, rows = x.shape[-1], 1, x
    while left > 1:
        # As even as possible: 2^17 goes as 2^5, 2^6 and 2^6.
        bits = left.bit_length() - 1
        length = 1 << bits // math.ceil(bits / _MOST_BITS)
        matrix = _hadamard(length, x.device, x.dtype)
        rows = rows.reshape(-1, length) @ matrix if after == 1 else matrix @ rows.view(-1, length, after)
        left, after = left // length, after * length
    return rows.reshape(x.shape)


@functools.lru_cache(maxsize=32)
def _hadamard(width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """H, width x width, by Sylvester's construction."""
    matrix = torch.ones(1, 1, device=device, dtype=dtype)
    while len(matrix) < width:
        matrix = torch.cat([torch.cat([matrix, matrix], dim=1), torch.cat([matrix, -matrix], dim=1)])
    return matrix
