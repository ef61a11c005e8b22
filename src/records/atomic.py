"""Files that are either whole or absent: a temporary name in the same folder, flush, fsync, os.replace."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from src.errors import WriteError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to, in the folder of `path`; it takes the place of `path` when the block ends.

    The folder is made if need be. When the block fails the temporary file is removed and `path` stays as it was.

    Raises:
        WriteError: the system refused to write (no permission, full disk); names the folder and the cause.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as an error of its own
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # if the folder itself is unusable, the error on its way up says why
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Raises:
    WriteError: the system refused to write.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json_atomic(path: Path, value: Any) -> None:
    """Write strict, indented JSON.

    Raises:
        WriteError: the system refused to write.
        ValueError: a number is not finite; the caller has to say None where a value is missing.
    """
    text = json.dumps(value, indent=2, allow_nan=False)
    write_bytes_atomic(path, f"{text}\n".encode())


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries; some file systems cannot, and what stands in it is whole in any case."""
    with suppress(OSError):
        sync(path)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else uses; what a kill leaves under it is known by its form."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def cannot_write(path: Path, error: Exception) -> WriteError:
    """The error for a file or folder that the system refused to write."""
    cause = getattr(error, "strerror", None) or str(error)
    return WriteError(
        f"Cannot write {path.name} in {path.parent}: {cause}. Nothing half-written was left under that name; free "
        "some space or make the folder writable, or choose another folder with output_dir, and start again."
    )
