"""The matrix products of a step, and nothing else: no step over these shapes on this machine takes less time.

The products are those of the frozen model's forward pass and of its backward pass to the inputs: for each linear layer
x W^T and g W, for each attention q k^T and p v, and backward the four products with their gradients. They are written
down while the model runs, whichever implementation of attention it has, and then repeated by themselves: with the real
weights, with operands in the layout that the model gave them, each by the fastest kernel known here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from src.adapters.products import product as linear_product
from src.models.hardware import wait

Kernel = Callable[[Tensor, Tensor], Tensor]
TRIALS = 7

_PLACES = {"aten::mm": 0, "aten::addmm": 1, "aten::bmm": 0, "aten::baddbmm": 1}
_FUSED = "aten::_scaled_dot_product_"


@dataclass(frozen=True)
class Operand:
    """One side of a product.

    Attributes:
        weight: the frozen weight itself; None where it is an activation, of which shape and layout alone count.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    weight: Tensor | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two activations interchangeable."""
        return self.shape, self.strides, self.dtype, self.device


@dataclass(frozen=True)
class Product:
    """left @ right: m x k by k x n, or a batch of such."""

    left: Operand
    right: Operand

    @property
    def flops(self) -> int:
        """Two for each multiplication."""
        return 2 * math.prod(self.left.shape) * self.right.shape[-1]


def record_products(step: Callable[[], object], weights: Iterable[Tensor]) -> list[Product]:
    """Every matrix product of `step`, in order.

    Args:
        weights: tensors that are products' operands themselves, not only their shapes.
    """
    recorder = _Recorder(weights)
    with recorder:
        step()
    return recorder.products


def replay(products: Sequence[Product], *, fastest: bool = True) -> Callable[[], None]:
    """A function that computes all products; activations of one shape share their memory.

    Args:
        fastest: each by the fastest kernel known here; False: all by torch's own.
    """
    memory: dict[tuple[Any, ...], Tensor] = {}
    kernels: dict[tuple[Any, ...], Kernel] = {}
    calls: list[tuple[Kernel, Tensor, Tensor]] = []
    for product in products:
        left, right = _filled(product.left, "left", memory), _filled(product.right, "right", memory)
        key = (*product.left.key, *product.right.key)
        if key not in kernels:
            kernels[key] = _fastest(left, right) if fastest else torch.matmul
        calls.append((kernels[key], left, right))

    @torch.no_grad()
    def run() -> None:
        for kernel, left, right in calls:
            kernel(left, right)

    return run


@torch.no_grad()
def _fastest(left: Tensor, right: Tensor) -> Kernel:
    """Of torch's product, and for two matrices that which our own layers use."""
    if left.dim() > 2:
        return torch.matmul
    seconds = {kernel: min(_time(kernel, left, right) for _ in range(TRIALS)) for kernel in (torch.matmul, _linear)}
    return min(seconds, key=lambda kernel: seconds[kernel])


def _linear(left: Tensor, right: Tensor) -> Tensor:
    return linear_product(left, right.T)


def _time(kernel: Kernel, left: Tensor, right: Tensor) -> float:
    wait(left.device)
    started = time.perf_counter()
    kernel(left, right)
    wait(left.device)
    return time.perf_counter() - started


class _Recorder(TorchDispatchMode):
    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self.products: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in _PLACES:
            place = _PLACES[name]
            self.products.append(Product(self._operand(args[place]), self._operand(args[place + 1])))
        elif name.startswith(_FUSED):
            self.products += _attention(*args[:3]) if "backward" not in name else _attention_backward(*args[1:4])
        return func(*args, **(kwargs or {}))

    def _operand(self, tensor: Tensor) -> Operand:
        frozen = tensor.untyped_storage().data_ptr() in self._weights
        return Operand(
            tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device, tensor.detach() if frozen else None
        )


def _attention(q: Tensor, k: Tensor, v: Tensor) -> list[Product]:
    """q k^T and p v of a fused attention, each b x h x L x d; what a causal mask hides is counted too."""
    return [_product(q, _scores_t(q, k)), _product(_scores(q, k), v)]


def _attention_backward(q: Tensor, k: Tensor, v: Tensor) -> list[Product]:
    """dp = g v^T, dv = p^T g, dq = ds k, dk = ds^T q."""
    scores, turned = _scores(q, k), _scores(k, q)
    return [_product(q, _scores_t(q, v)), _product(turned, q), _product(scores, k), _product(turned, q)]


def _scores(q: Tensor, k: Tensor) -> tuple[int, ...]:
    return (*q.shape[:-1], k.shape[-2])


def _scores_t(q: Tensor, k: Tensor) -> tuple[int, ...]:
    return (*q.shape[:-2], q.shape[-1], k.shape[-2])


def _product(left: Tensor | tuple[int, ...], right: Tensor | tuple[int, ...]) -> Product:
    """Contiguous operands with heads and rows in one dimension, which is the fastest layout.

    Raises:
        TypeError: shapes on both sides, from which neither dtype nor device follow.
    """
    like = left if isinstance(left, Tensor) else right
    if not isinstance(like, Tensor):
        raise TypeError("one side is a tensor")
    heads = math.prod((left.shape if isinstance(left, Tensor) else left)[:-2])
    return Product(*(_contiguous(side, heads, like) for side in (left, right)))


def _contiguous(side: Tensor | tuple[int, ...], heads: int, like: Tensor) -> Operand:
    rows, columns = (side.shape if isinstance(side, Tensor) else side)[-2:]
    return Operand((heads, rows, columns), (rows * columns, columns, 1), like.dtype, like.device)


def _filled(operand: Operand, side: str, memory: dict[tuple[Any, ...], Tensor]) -> Tensor:
    if operand.weight is not None:
        return operand.weight
    key = (side, *operand.key)
    if key not in memory:
        size = 1 + sum((length - 1) * stride for length, stride in zip(operand.shape, operand.strides, strict=True))
        generator = torch.Generator(operand.device).manual_seed(0)
        values = torch.randn(size, generator=generator, device=operand.device).to(operand.dtype)
        memory[key] = values.as_strided(operand.shape, operand.strides)
    return memory[key]
