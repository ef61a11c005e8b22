"""From pictures to a model's pixel values, in two halves: resized once to 8 bits a value, normalised batch by batch.

A data set of resized pictures lies in a file, of which only what a batch asks for is read. The halves are calls of
transformers' own image processor, and together give what one call gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers
from torch import Tensor

from src.data.files import writing_atomically
from src.data.pictures import Pictures
from src.data.rows import Rows
from src.data.tokens import TokenSplit
from src.errors import HarnessError

FORMAT = 1  # raise when the way of resizing below changes
CHUNK = 64
Shape = tuple[int, int, int]


class PictureProcessor:
    """What a model wants of a picture.

    Args:
        processor: an image processor of transformers.
        count_tokens: from the shape C x H x W of a picture's pixel values to the number of hidden states that the
            model makes of it, its patches and its cls token.

    Attributes:
        shape: C, H, W.
        num_tokens: hidden states for each picture.
        fingerprint: SHA-256 of all that decides what becomes of a picture.

    Raises:
        HarnessError: the processor does more than resize, crop, rescale and normalise pictures to one size.
    """

    def __init__(self, processor: Any, count_tokens: Callable[[Shape], int]) -> None:
        self._processor = processor
        self.shape = self._probe()
        self.num_tokens = count_tokens(self.shape)
        settings = [processor.to_dict(), type(processor).__name__, transformers.__version__, PIL.__version__]
        self.fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()

    def resize(self, pictures: Sequence[PIL.Image.Image]) -> np.ndarray:
        """uint8 b x C x H x W."""
        plain = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
        return self._processor(list(pictures), **plain)["pixel_values"]

    def finish(self, pixels: Tensor) -> Tensor:
        """From what `resize` gives to pixel values, float32 b x C x H x W."""
        plain = {"do_resize": False, "do_center_crop": False, "input_data_format": "channels_first"}
        return self._processor(list(pixels.numpy()), **plain, return_tensors="pt")["pixel_values"].float()

    def _probe(self) -> Shape:
        """The shape that pictures come out in, which must not depend on theirs; and that the halves are the whole."""
        ramp = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3) % 251
        wide = PIL.Image.fromarray(ramp.astype(np.uint8))
        pictures = [wide, wide.transpose(PIL.Image.Transpose.ROTATE_90)]
        try:
            pixels = self.resize(pictures)
            whole = self._processor(pictures, return_tensors="pt")["pixel_values"]
            exact = pixels.dtype == np.uint8 and torch.equal(self.finish(torch.from_numpy(pixels)), whole.float())
        except ValueError:  # pictures of several shapes do not make one array
            exact = False
        if not exact or pixels.ndim != 4:
            raise HarnessError(
                f"The image processor {type(self._processor).__name__} cannot be used: it must bring every picture to "
                "one size by resizing and cropping, then rescale and normalise it, as those of ViT and CLIP do. See "
                "size, crop_size, do_resize and do_center_crop in the model's preprocessor_config.json."
            )
        return pixels.shape[1:]


@dataclass(frozen=True)
class PictureSplit:
    """n pictures, resized to what the model takes.

    Attributes:
        pixels: uint8 [n, C, H, W], in a file of which only what is asked for is read.
        processor: makes pixel values of them.
        labels: class ids int64 [n] or numbers float32 [n].
    """

    pixels: Tensor
    processor: PictureProcessor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def lengths(self) -> Tensor:
        """Hidden states of each picture, int64 [n]."""
        return torch.full((len(self),), self.processor.num_tokens)

    @property
    def num_tokens(self) -> int:
        """Hidden states of all pictures."""
        return len(self) * self.processor.num_tokens

    def pixel_values(self, indices: Tensor) -> Tensor:
        """float32 [b, C, H, W] of the pictures at `indices` (int64 [b])."""
        return self.processor.finish(self.pixels[indices])


Split = TokenSplit | PictureSplit


def resize(rows: Rows, processor: PictureProcessor, cache_dir: Path) -> Tensor:
    """Resized pictures of a split, uint8 [n, C, H, W], from the cache where they are there.

    Raises:
        HarnessError: a picture cannot be read, or the cache cannot be written.
    """
    assert rows.pictures is not None
    parts = [str(FORMAT), processor.fingerprint, rows.fingerprint()]
    path = cache_dir / "pixels" / f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()}.npy"
    shape = (len(rows), *processor.shape)
    pixels = _read(path, shape)
    if pixels is None:
        _write(path, shape, rows.pictures, processor)
        pixels = _read(path, shape)
    assert pixels is not None
    return pixels


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """None where the file is absent or cut off; its content is not checked, as that would read all of it."""
    try:
        # Copy on write: torch wants memory that it could write to.
        pixels = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return torch.from_numpy(pixels) if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _write(path: Path, shape: tuple[int, ...], pictures: Pictures, processor: PictureProcessor) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with writing_atomically(path) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for at in range(0, len(pictures), CHUNK):
            chunk = [pictures.decode(i) for i in range(at, min(at + CHUNK, len(pictures)))]
            stream.write(processor.resize(chunk).tobytes())
