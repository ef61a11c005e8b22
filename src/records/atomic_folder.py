"""Folders that are either whole or absent."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from src.records.atomic import cannot_write, sync


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` when the block ends, unless `path` exists already.

    Raises:
        HarnessError: the system refused to write; nothing is left under the name.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        for file in scratch.iterdir():
            # safetensors makes files that only their owner may read; a shared cache needs what the umask allows.
            file.chmod(scratch.stat().st_mode & 0o666)
            sync(file)
        if not path.exists():
            scratch.rename(path)
            sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
