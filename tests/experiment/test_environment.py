"""What a record says of where it was made, against the sources themselves."""

from __future__ import annotations

import importlib.metadata
import json
import mmap
import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from src.experiment import environment
from src.experiment.environment import describe_environment, peak_memory, reset_peak_memory

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 2**20


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.float32, "float32"), (torch.bfloat16, "bfloat16"), (torch.float64, "float64")]
)
def test_device_and_precision_are_named(dtype: torch.dtype, name: str) -> None:
    env = describe_environment(CPU, dtype)
    assert (env["device"], env["dtype"], env["threads"]) == ("cpu", name, torch.get_num_threads())
    assert env["device_name"]
    assert json.loads(json.dumps(env, allow_nan=False)) == env


def test_versions_are_those_that_are_installed() -> None:
    versions = describe_environment(CPU, torch.float32)["versions"]
    assert versions["python"] == platform.python_version()
    assert {"torch", "transformers", "hydra-core", "datasets", "evaluate", "safetensors", "wandb"} <= versions.keys()
    for package in versions.keys() - {"python"}:
        assert versions[package] == importlib.metadata.version(package)


def test_the_commit_is_that_of_the_code() -> None:
    environment._git.cache_clear()
    git = describe_environment(CPU, torch.float32)["git"]
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        assert git == {"commit": None, "dirty": None}
    else:
        assert git["commit"] == done.stdout.strip()
        assert isinstance(git["dirty"], bool)


def test_without_git_the_commit_is_missing_not_invented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    environment._git.cache_clear()
    try:
        assert describe_environment(CPU, torch.float32)["git"] == {"commit": None, "dirty": None}
    finally:
        environment._git.cache_clear()


def test_a_record_keeps_its_own_copy() -> None:
    first = describe_environment(CPU, torch.float32)
    first["versions"]["torch"] = first["git"]["commit"] = "changed"
    second = describe_environment(CPU, torch.float32)
    assert second["versions"]["torch"] != "changed"
    assert second["git"]["commit"] != "changed"


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system cannot forget its peak")
def test_the_peak_is_that_since_the_reset() -> None:
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    assert before is not None
    with mmap.mmap(-1, 300 * MEGABYTE) as fresh:  # memory that no allocator had in store
        fresh[:: mmap.PAGESIZE] = b"x" * (len(fresh) // mmap.PAGESIZE)
    high = peak_memory(CPU)
    assert high is not None
    assert high - before > 250 * MEGABYTE
    reset_peak_memory(CPU)
    after = peak_memory(CPU)
    assert after is not None
    assert after < high - 200 * MEGABYTE


def test_where_the_system_does_not_tell_the_peak_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "_SELF", tmp_path)
    reset_peak_memory(CPU)
    assert peak_memory(CPU) is None
