"""Pictures of a data set: decoded when asked for, and known by a digest of what is to be seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from datasets import Dataset, Image

from src.data.token_cache import read_tokens, write_tokens
from src.errors import ConfigError, HarnessError
from src.spec import TaskSpec

DIGEST = "digest of the picture"  # column that `with_digests` adds
FORMAT = 1  # raise when the way of taking digests changes
DIGEST_SIZE = 16  # bytes
_RGB = Image(mode="RGB")


@dataclass(frozen=True)
class Pictures:
    """The pictures of some rows, still encoded.

    Attributes:
        column: all rows of the data set; PNG, JPEG or other files' bytes, or their paths.
        indices: which of them.
        origin: where they come from, for error messages.
    """

    column: Sequence[Any]
    indices: Sequence[int]
    origin: str

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Sequence[int]) -> Pictures:
        """The pictures at `indices`, in that order."""
        return Pictures(self.column, [self.indices[i] for i in indices], self.origin)

    def encoded(self, i: int) -> dict[str, Any] | None:
        """Picture i as ``bytes`` or ``path``; None where it is missing."""
        value = self.column[self.indices[i]]
        return None if value is None or (value["bytes"] is None and not value["path"]) else value

    def decode(self, i: int) -> PIL.Image.Image:
        """Picture i in RGB, turned as its camera says.

        Raises:
            HarnessError: it is missing or cannot be read.
        """
        try:
            encoded = self.encoded(i)
            if encoded is not None and encoded["bytes"] is None and "://" in encoded["path"]:
                raise ValueError("it is an address, and pictures are not fetched from addresses in data")
            return _RGB.decode_example(encoded)
        # Broken files show as errors of many types.
        except Exception as error:
            raise HarnessError(
                f"The picture in row {self.indices[i]} (counted from 0) of {self.origin} cannot be read: {error}. "
                "Repair or remove it."
            ) from error


def pictures_of(dataset: Dataset, spec: TaskSpec, split: str) -> Pictures:
    """The column ``spec.image``.

    Raises:
        ConfigError: it holds something else than pictures.
    """
    assert spec.image is not None
    try:
        encoded = dataset.cast_column(spec.image, Image(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ConfigError("task.image", spec.image, f"a column of {spec.path} that holds pictures") from error
    return Pictures(encoded[spec.image], range(len(dataset)), f"the {split} split of {spec.path}")


def with_digests(dataset: Dataset, spec: TaskSpec, split: str, cache_dir: Path) -> Dataset:
    """The data set with a column DIGEST: equal for pictures that look the same, "" where the picture is missing.

    To decode many pictures takes minutes, so digests are kept; only the files' bytes are read again.

    Raises:
        ConfigError: the column holds no pictures.
        HarnessError: a picture cannot be read.
    """
    pictures = pictures_of(dataset, spec, split)
    key = hashlib.sha256(f"{FORMAT} {PIL.__version__}".encode())
    for i in range(len(pictures)):
        key.update(_encoded_digest(pictures.encoded(i)))
    path = cache_dir / "pictures" / f"{key.hexdigest()}.safetensors"
    kept = read_tokens(path)
    if kept is None:
        kept = {"digests": _digests(pictures)}, {}
        write_tokens(path, *kept)
    named = [digest.tobytes().hex() if digest.any() else "" for digest in kept[0]["digests"].numpy()]
    return dataset.add_column(DIGEST, named)


def _digests(pictures: Pictures) -> torch.Tensor:
    """uint8 [n, DIGEST_SIZE], zeros where the picture is missing."""
    rows = np.zeros((len(pictures), DIGEST_SIZE), dtype=np.uint8)
    for i in range(len(pictures)):
        if pictures.encoded(i) is not None:
            picture = pictures.decode(i)
            content = f"{picture.width} {picture.height}\n".encode() + picture.tobytes()
            rows[i] = np.frombuffer(hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest(), dtype=np.uint8)
    return torch.from_numpy(rows)


def _encoded_digest(value: dict[str, Any] | None) -> bytes:
    """Of a picture's file, without decoding it; of its address, where it is not on this machine."""
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    if value is not None:
        content = value["bytes"]
        if content is None:
            file = Path(value["path"])
            content = file.read_bytes() if file.is_file() else str(file).encode()
        digest.update(b"picture\n" + content)
    return digest.digest()
