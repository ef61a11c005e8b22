"""Weights in a GGUF file as a folder that transformers loads, made once."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from src.errors import HarnessError
from src.models.library import quiet, reason_of
from src.records import atomic_folder

logger = logging.getLogger(__name__)


def converted(gguf: Path, cache_dir: Path) -> Path:
    """A folder with the GGUF file's weights as float32 safetensors, made once."""
    target = cache_dir / "converted" / gguf.parent.name
    if target.exists():
        return target
    logger.info("Converting %s to safetensors (once)", gguf.name)
    # transformers draws a progress bar for this that no setting turns off.
    with contextlib.redirect_stderr(io.StringIO()), atomic_folder(target) as scratch:
        try:
            _convert(gguf, scratch)
        except Exception as error:  # broken files show as errors of many libraries
            raise HarnessError(
                f"The GGUF file {gguf} cannot be read: {reason_of(error)} Remove the folder {gguf.parent} to have it "
                "fetched again."
            ) from error
    return target


def _convert(gguf: Path, scratch: Path) -> None:
    with quiet():
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # What was read from GGUF counts as quantised and refuses to be saved; the same weights in a plain model do.
        del read.config.quantization_config
        plain = AutoModelForCausalLM.from_config(read.config)
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(scratch)
