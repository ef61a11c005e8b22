"""Folders that are either whole or absent, also while they are written or removed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from src.records.atomic import cannot_write, sync, sync_folder, temporary_name


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` when the block ends, unless a folder that is not empty has that
    name by then: of several writers the first one wins.

    Raises:
        HarnessError: the system refused to write; nothing is left under the name.
    """
    scratch = temporary_name(path)
    try:
        scratch.mkdir(parents=True)
        yield scratch
        for file in scratch.iterdir():
            # safetensors makes files that only their owner may read; a shared cache needs what the umask allows.
            file.chmod(scratch.stat().st_mode & 0o666)
            sync(file)
        sync_folder(scratch)
        _rename_once(scratch, path)
        sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _rename_once(scratch: Path, path: Path) -> None:
    try:
        scratch.rename(path)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise


def remove_folder(path: Path) -> None:
    """Remove a folder so that at no moment a part of it stands under its name; what cannot be removed stays."""
    doomed = temporary_name(path)
    with suppress(OSError):
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes have left half-written, or half-removed, in a folder.

    Only for who is alone in writing there: what another process is writing at the moment looks the same.
    """
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()
