"""A look at data files before a library opens them: what is no plain table is told in a sentence, and never unpacked.

datasets goes by a file's first bytes, not by its name: it would unpack an archive that is named .csv, whatever size and
paths are in it. And a folder's README.md may lead it to files and addresses elsewhere.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from src.errors import HarnessError, brief

LOOKED_AT = 1 << 24  # bytes at the beginning of a file
MOST_FILES = 100_000
_TEXTS = frozenset({".csv", ".tsv", ".json", ".jsonl"})
_ARCHIVES = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7-Zip", b"\x28\xb5\x2f\xfd": "Zstandard", b"\x04\x22\x4d\x18": "LZ4", b"Rar!": "RAR",
}  # fmt: skip
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# In a folder: what would be unpacked, or is code or a pickle.
_REFUSED = frozenset(
    [
        ".zip",
        ".tar",
        ".gz",
        ".tgz",
        ".bz2",
        ".xz",
        ".7z",
        ".zst",
        ".lz4",
        ".rar",
        ".py",
        ".pyc",
        ".so",
        ".pkl",
        ".pickle",
        ".pt",
        ".pth",
        ".bin",
        ".eval",
        ".toml",
    ]
)


def look_at_file(file: Path) -> None:
    """Raises:
    HarnessError: empty, an archive, not UTF-8, or a header with the same column twice.
    """
    try:
        with file.open("rb") as stream:
            begin = stream.read(LOOKED_AT)
    except OSError as error:
        raise HarnessError(f"The data file {file} cannot be read: {error.strerror or error}.") from error
    if not begin.strip():
        raise HarnessError(f"The data file {file} is empty; it needs a row for each example.")
    kind = next((name for magic, name in _ARCHIVES.items() if begin.startswith(magic)), None)
    if kind or begin[257:262] == b"ustar":
        raise HarnessError(f"The data file {file} is an archive ({kind or 'tar'}); unpack it and name the file inside.")
    if file.suffix.lower() in _TEXTS:
        _check_text(file, begin)
    if file.suffix.lower() in {".csv", ".tsv"}:
        _check_header(file, begin)


def look_at_folder(folder: Path) -> None:
    """Raises:
    HarnessError: archives, code or pickles in it, or a README.md that leads elsewhere.
    """
    for number, file in enumerate(folder.rglob("*")):
        if number >= MOST_FILES:
            break
        if file.suffix.lower() in _REFUSED and file.is_file():
            raise HarnessError(
                f"The data folder {folder} holds {file.relative_to(folder)}; allowed are csv, tsv, json, jsonl and "
                "parquet files, and pictures: no archives, no code and no pickles. Name one file, or remove the others."
            )
    readme = folder / "README.md"
    if readme.is_file():
        for value in _strings(_front_matter(readme)):
            if "://" in value or value.startswith(("/", "~")) or ".." in value.split("/"):
                raise HarnessError(f"{readme} leads to {brief(value)}, outside of its folder, which is not followed.")


def _check_text(file: Path, begin: bytes) -> None:
    allowed = "allowed is UTF-8 text; `iconv -f <encoding> -t UTF-8` converts other encodings"
    if begin.startswith(_UTF16) or begin.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise HarnessError(f"The data file {file} is UTF-16 or UTF-32 text; {allowed}.")
    if b"\0" in begin:
        raise HarnessError(f"The data file {file} is binary: it holds a NUL byte at {begin.index(0):,}; {allowed}.")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin, final=len(begin) < LOOKED_AT)
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at {error.start:,}"
        raise HarnessError(f"The data file {file} is not UTF-8 text ({found}); {allowed}.") from error


def _check_header(file: Path, begin: bytes) -> None:
    """pandas would name the second of two equal columns anew, without a word."""
    text = begin.decode("utf-8-sig", "replace")
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error as error:
        raise HarnessError(f"The header of the data file {file} cannot be read: {error}.") from error
    twice = [brief(name) for name, number in Counter(header).items() if number > 1 and name.strip()]
    if twice:
        raise HarnessError(f"The data file {file} has the column {twice[0]!r} twice; each column needs its own name.")


def _front_matter(readme: Path) -> Any:
    text = readme.read_bytes()[:LOOKED_AT].decode("utf-8", "replace")
    parts = text.split("---\n", maxsplit=2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        matter = yaml.safe_load(parts[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    # Of all that a card may say, these two name files.
    return {key: matter.get(key) for key in ("configs", "dataset_info")} if isinstance(matter, Mapping) else None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
