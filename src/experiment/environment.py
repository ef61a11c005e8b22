"""What a run ran on: versions, commit, device, memory; kept in its record."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "transformers", "hydra-core", "datasets", "evaluate", "safetensors", "wandb")
_SELF = Path("/proc/self")


def describe_environment(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The ``env`` of a record, with plain JSON values."""
    return {
        "versions": dict(_versions()),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "git": dict(_git()),
    }


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring anew; where the system cannot (not Linux), the peak since the process began counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            (_SELF / "clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak since `reset_peak_memory`: of the GPU's allocations, or of the process; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = (_SELF / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return None


@functools.lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


@functools.lru_cache(maxsize=1)
def _git() -> dict[str, str | bool | None]:
    """Commit of the code and whether it was changed since; None where it is not a git checkout."""
    root = Path(__file__).resolve().parents[2]
    commit = _run_git(root, "rev-parse", "HEAD")
    changes = _run_git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or None, "dirty": None if changes is None else bool(changes)}


def _run_git(root: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True, text=True, timeout=10, check=True, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
