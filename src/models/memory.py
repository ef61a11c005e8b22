"""Bytes that tensors take in memory, and bytes that are free."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of memory behind tensors; a storage that several share, as tied weights do, counts once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def free_bytes(device: torch.device) -> int:
    """Memory of the device that could be taken now, within the limit of the process's control group (Linux).

    Where the system does not say what is free, it is taken for half of what there is.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    limits = []
    with contextlib.suppress(OSError):
        if found := re.search(r"^MemAvailable:\s*(\d+) kB", _MEMINFO.read_text(), re.MULTILINE):
            limits.append(1024 * int(found[1]))
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        most, now = ((_CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        limits.append(max(0, int(most) - int(now)))
    return min(limits) if limits else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
