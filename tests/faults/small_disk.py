"""A file system of its own that can be filled to the last page."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

BALLAST = "ballast"
PAGE = 4096


@dataclass(frozen=True)
class Disk:
    """A mounted tmpfs."""

    root: Path

    @property
    def free(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.root).free

    def leave(self, size: int) -> None:
        """Fill it with something of ours until only `size` bytes, in whole pages, are free."""
        self.clear()
        length = self.free - size // PAGE * PAGE
        with (self.root / BALLAST).open("wb") as file:
            if length > 0:
                os.posix_fallocate(file.fileno(), 0, length)

    def clear(self) -> None:
        """Free what `leave` has taken."""
        (self.root / BALLAST).unlink(missing_ok=True)


@contextmanager
def small_disk(root: Path, size: int = 128 << 20) -> Iterator[Disk]:
    """Mount a tmpfs of `size` bytes; skips the test where the system does not let us."""
    root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(root)
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)
