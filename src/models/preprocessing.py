"""What makes a model's inputs of a task's rows: its tokenizer, or for pictures its image processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from src.data import PictureProcessor
from src.data.pixels import Shape
from src.errors import ConfigError, HarnessError
from src.models.loading import Base, check_length, load_image_processor, load_tokenizer, outline
from src.spec import ModelSpec, TaskSpec

PIXELS = "pixel_values"


def load_preprocessor(model: ModelSpec, task: TaskSpec, cache_dir: Path) -> Any:
    """A fast tokenizer of transformers, or for a task of pictures a PictureProcessor.

    Raises:
        HarnessError: missing files, no network, or an image processor that does not suit its model.
    """
    if task.image is None:
        return load_tokenizer(model, cache_dir)
    base = outline(model, task.kind, cache_dir)
    return PictureProcessor(load_image_processor(model, cache_dir), lambda shape: _count_tokens(base, shape))


def check_inputs(base: Base, model: ModelSpec, task: TaskSpec) -> None:
    """Whether a model can read a task.

    Raises:
        ConfigError: pictures for a model of text or text for a model of pictures, a model of neither (Whisper), or
            more tokens than positions.
    """
    plain: Any = base.model
    sees = plain.main_input_name == PIXELS
    kind = f"{plain.config.model_type} model {model.path}"
    if plain.main_input_name not in {"input_ids", PIXELS}:
        raise ConfigError("model.path", model.path, f"a model of text or pictures, not the {kind}")
    if task.image is not None and not sees:
        allowed = f"null with the {kind}, which reads no pictures (model=vit_base does)"
        raise ConfigError("task.image", task.image, allowed)
    if task.image is None and sees:
        raise ConfigError("task.image", None, f"a column of pictures with the {kind}, which reads no text")
    if not sees:
        check_length(base, task.max_length)


def _count_tokens(base: Base, shape: Shape) -> int:
    """Hidden states that the model makes of one picture: counted on its outline, without weights."""
    try:
        return base.backbone(pixel_values=torch.empty(1, *shape, device="meta")).last_hidden_state.shape[1]
    except (ValueError, RuntimeError) as error:
        raise HarnessError(
            f"The image processor of {base.source} makes pictures of {' x '.join(map(str, shape))} values (channels, "
            f"height, width), which its model does not take: {error} Set size in its preprocessor_config.json."
        ) from error
