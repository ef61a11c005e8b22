"""Bytes of storages, each counted once."""

from __future__ import annotations

import torch

from src.models.memory import held_bytes


def test_memory_that_tensors_share_counts_once() -> None:
    whole = torch.zeros(6, 4)
    assert held_bytes([whole, whole[1:], whole.T, torch.zeros(3, dtype=torch.float64)]) == 6 * 4 * 4 + 3 * 8
    assert held_bytes([]) == 0
