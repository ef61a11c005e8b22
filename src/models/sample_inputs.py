"""Inputs without meaning, for a model of any kind: to time it, or to see what its parts do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from src.models.loading import Base
from src.models.seq2seq import reads_and_writes


def image_shape(config: Any) -> tuple[int, int, int]:
    """Channels, height and width of the pictures that a model was made for."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return config.num_channels, height, width


def sample_inputs(base: Base, batch: int, length: int, like: Tensor | None = None) -> dict[str, Tensor]:
    """A random batch without padding, as the backbone takes it; the first is the model's main input.

    Args:
        length: tokens of each row; pictures and sound are of the model's own size.
        like: for device, and precision of pictures and sound; None for the base's own weights.
    """
    model: Any = base.model
    config, draw = model.config, torch.Generator().manual_seed(0)
    like = next(model.parameters()) if like is None else like

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=draw).to(like)

    def tokens() -> Tensor:
        return torch.randint(0, config.vocab_size, (batch, length), generator=draw).to(like.device)

    match model.main_input_name:
        case "pixel_values":
            return {"pixel_values": noise(*image_shape(config))}
        case "input_features":
            sound = noise(config.num_mel_bins, 2 * config.max_source_positions)
            return {"input_features": sound, "decoder_input_ids": tokens()}
        case _:
            ids = tokens()
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            # Without a head that writes, only the encoder has something to do.
            writes = base.output is not None and reads_and_writes(config)
            return inputs | ({"decoder_input_ids": tokens()} if writes else {})
