"""Bytes of storages, each counted once, and bytes that are free."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from src.models import memory
from src.models.memory import free_bytes, held_bytes

CPU = torch.device("cpu")


def test_memory_that_tensors_share_counts_once() -> None:
    whole = torch.zeros(6, 4)
    assert held_bytes([whole, whole[1:], whole.T, torch.zeros(3, dtype=torch.float64)]) == 6 * 4 * 4 + 3 * 8
    assert held_bytes([]) == 0


def test_what_is_free_is_less_than_what_there_is() -> None:
    assert 0 < free_bytes(CPU) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_control_groups_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:  8000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_bytes(CPU) == 8000 * 1024
    (tmp_path / "memory.current").write_text("1000\n")
    for limit, free in (("max", 8000 * 1024), ("5000", 4000), ("500", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert free_bytes(CPU) == free


def test_where_the_system_does_not_say_half_of_what_there_is_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_bytes(CPU) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
