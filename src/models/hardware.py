"""Which device and precision to use: probed, never guessed."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from typing import Literal

import torch

from src.errors import ConfigError
from src.spec.run import DType

logger = logging.getLogger(__name__)
Attention = Literal["sdpa", "eager"]
# Up to this length the plain products are faster on CPUs in bfloat16: torch's fused backward pass is slow there
# (8,192 tokens, 12 heads of 32, length 64: 110 ms against 241 ms, forward and backward; at length 256 they are even).
EAGER_LENGTH = 128
# glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def resolve_device(requested: str) -> torch.device:
    """``auto`` is the first GPU where there is one, else the CPU.

    Raises:
        ConfigError: a GPU was asked for that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested == "auto":
        return torch.device("cuda:0" if count else "cpu")
    kind, _, index = requested.partition(":")
    # Not torch.device's own index, which wraps around at 128.
    if kind == "cuda" and int(index or 0) >= count:
        here = f"cuda:0 to cuda:{count - 1}" if count else "no usable GPU here"
        raise ConfigError("device", requested, f"auto, cpu ({here})")
    return torch.device(requested)


def resolve_dtype(requested: DType, device: torch.device) -> torch.dtype:
    """Precision of the frozen base; adapters, heads and losses stay in float32 (float64 with a float64 base)."""
    native = has_native_bfloat16(device)
    if requested == "auto":
        return torch.bfloat16 if native else torch.float32
    if requested == "bfloat16" and not native:
        logger.warning("%s has no native bfloat16 products: trainer.dtype=bfloat16 will be slower than float32", device)
    return _DTYPES[requested]


def choose_attention(device: torch.device, dtype: torch.dtype, max_length: int) -> Attention:
    """The faster of transformers' attention implementations for sequences of up to `max_length` tokens."""
    plain = device.type == "cpu" and dtype == torch.bfloat16 and max_length <= EAGER_LENGTH
    return "eager" if plain else "sdpa"


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself; emulation is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free instead of giving it back and fetching zeroed pages again.

    On CPUs, where activations come and go with each step: 8 lanes of MiniLM 0.95 s a step against 1.11 s, their
    evaluation in batches of 64 26 s against 37 s (two cores). Only glibc has the call; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def master_dtype(dtype: torch.dtype) -> torch.dtype:
    """Precision of what is trained over a base of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32
