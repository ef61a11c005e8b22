"""A task as inputs of a model: by its tokenizer, or for pictures by its image processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from src.data import PictureProcessor, TaskData, cached_task, digest_of_files, load_task, read_task, write_task
from src.data.pixels import Shape
from src.errors import ConfigError, HarnessError
from src.models.loading import Base, check_length, load_image_processor, load_tokenizer, local_source, outline
from src.spec import ModelSpec, TaskSpec

PIXELS = "pixel_values"
# What a model's folder may hold besides its configuration and its tokenizer's files.
_WEIGHTS = frozenset({".safetensors", ".bin", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".pth"})


def load_data(model: ModelSpec, task: TaskSpec, cache_dir: Path) -> TaskData:
    """A task for a model; one that was prepared before comes from the cache whole, without its tokenizer.

    Raises:
        ConfigError, HarnessError: as `load_preprocessor` and `load_task`.
    """
    made_by = _tokenizer_digest(model, task, cache_dir)
    path = None if made_by is None else cached_task(task, made_by, cache_dir)
    data = None if path is None else read_task(path, task)
    if data is None:
        data = load_task(task, load_preprocessor(model, task, cache_dir), cache_dir)
        if path is not None:
            write_task(path, data)
    return data


def _tokenizer_digest(model: ModelSpec, task: TaskSpec, cache_dir: Path) -> str | None:
    """Of all files that may decide how a model's tokenizer cuts text; None where they are not at hand."""
    folder = Path(local_source(model, cache_dir))
    if task.image is not None or not folder.is_dir():
        return None
    files = (file for file in folder.iterdir() if file.is_file() and file.suffix not in _WEIGHTS)
    return digest_of_files(files)


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
