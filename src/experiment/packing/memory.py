"""Memory: how much a piece of work takes, and what it looks like when there is not enough."""

from __future__ import annotations

import contextlib
import ctypes
import gc

import torch

from src.errors import HarnessError
from src.experiment.environment import peak_memory, reset_peak_memory

# What torch says where it raises a plain RuntimeError: its CPU allocator, and libraries that allocate on a GPU.
_WORDS = ("not enough memory", "can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


class DoesNotFitError(HarnessError):
    """One cell alone needs more memory than there is."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(
            f"The memory of {device} does not suffice for this cell, even alone. Raise trainer.accumulation (the same "
            "result from fewer examples at a time), set trainer.gradient_checkpointing=true, or lower "
            "trainer.batch_size, trainer.eval_batch_size or task.max_length."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the GPU or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def release_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more, so that it counts as free again."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        with contextlib.suppress(OSError, AttributeError):  # only glibc has the call
            ctypes.CDLL(None).malloc_trim(0)


class Growth:
    """Most bytes that were in use at once since it was made, beyond those in use then.

    Memory is released first: a process that keeps what was freed would grow by less than it uses.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        release_memory(device)
        reset_peak_memory(device)
        self._before = peak_memory(device)

    @property
    def bytes(self) -> int | None:
        """None where the system does not say."""
        peak = peak_memory(self.device)
        return None if peak is None or self._before is None else max(0, peak - self._before)
