"""What a benchmark ran on, and the packages that it compares with."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
from typing import Any

import torch

from src.errors import HarnessError
from src.experiment.environment import describe_environment

PEERS = ("peft", "loralib", "accelerate")
INSTALL = 'pip install -c constraints.txt -e ".[bench]"'


def describe_machine(device: torch.device, dtype: torch.dtype | None = None) -> dict[str, Any]:
    """The ``env`` of a result: that of a record, with the peers' versions and how busy the machine was.

    Args:
        dtype: None where a table has several; it is left out then.
    """
    env = describe_environment(device, dtype or torch.float32)
    if dtype is None:
        del env["dtype"]
    versions = dict(env["versions"])
    for package in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {**env, "versions": versions, "cores": os.cpu_count(), "load": list(os.getloadavg())}


def require(*packages: str) -> None:
    """Raises:
    HarnessError: a peer is not installed; says how to install all of them.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise HarnessError(f"This benchmark compares with {package}, which is not installed: {INSTALL}") from error
