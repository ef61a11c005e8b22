"""Bytes that tensors take in memory."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of memory behind tensors; a storage that several share, as tied weights do, counts once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
