"""Products with a frozen weight, by the fastest kernel that computes the same thing.

On CPUs in float32 and bfloat16 that is oneDNN's linear, which torch itself uses in bfloat16 and inside compiled models.
In float32 torch otherwise takes the BLAS library that it was built with, and MKL leaves half of the vector width
unused on processors of other makers: 190 against 430 GFLOP/s on two cores of an AMD EPYC, with an error of the same
size (products of 1,024 rows, 384 to 1,536 wide: 4e-7 and 1e-6 of the largest output). oneDNN also adds the bias while
the sums are still in registers, where addmm copies it to all rows first.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for n x d_in and d_out x d_in (a transposed view will do); not differentiable."""
    if not _fits_onednn(x, weight):
        return F.linear(x, weight, bias)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, differentiable in x alone: nothing but a reference to the weight is kept for backward."""
    if not (_fits_onednn(x, weight) and x.requires_grad and torch.is_grad_enabled()):
        return product(x, weight, bias)
    result: Tensor = _FrozenLinear.apply(x, weight, bias)
    return result


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return product(grads[0], weight.T), None, None


def _fits_onednn(x: Tensor, weight: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == weight.dtype and x.dtype in _onednn_dtypes() and x.numel() > 0


@functools.cache
def _onednn_dtypes() -> frozenset[torch.dtype]:
    """Precisions in which this processor and this build of torch have oneDNN's linear."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return frozenset()
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return frozenset({torch.float32, torch.bfloat16} if native else {torch.float32})
