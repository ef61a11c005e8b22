"""Tiny random models of pictures, in memory and on disk, and what they see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, PreTrainedModel, ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from src.data import PictureProcessor, PictureSplit, TaskData
from src.models.loading import Base, freeze
from src.spec import TaskKind, TaskSpec

SIDE, PATCH = 8, 4
TOKENS = (SIDE // PATCH) ** 2 + 1
# Weights of N(0, 0.2), as with 0.02 nothing of a picture comes through to the cls token of an untrained model.
_SEES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "image_size": SIDE,
    "patch_size": PATCH, "initializer_range": 0.2,
}  # fmt: skip
_READS = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 50}


def tiny_model(model_type: str, seed: int = 0, **changes: int) -> PreTrainedModel:
    """A random ViT, or a CLIP with both its halves, in float32."""
    torch.manual_seed(seed)
    sees = {**_SEES, **changes}
    if model_type == "vit":
        return ViTModel(ViTConfig(**sees)).eval()
    return CLIPModel(CLIPConfig(vision_config={**sees, "initializer_factor": 10.0}, text_config=_READS)).eval()


def save_pictures_model(folder: Path, model_type: str = "vit", **changes: int) -> Path:
    """The model with its image processor, as transformers saves them."""
    tiny_model(model_type, **changes).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    inner = ViTImageProcessorPil(size=size) if model_type == "vit" else CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=size
    )  # fmt: skip
    inner.save_pretrained(folder)
    return folder


def vision_base(model_type: str, kind: TaskKind = "classification") -> Base:
    """Frozen, in float64; of CLIP the half that sees."""
    model = tiny_model(model_type)
    sees = model if model_type == "vit" else model.vision_model
    return freeze(sees.double(), kind, "tiny")


def picture_data(kind: TaskKind = "classification", *, train: int = 70, rest: int = 20) -> TaskData:
    """Noise of a brightness that the label follows from, so it can be learnt."""
    metric = "accuracy" if kind == "classification" else "mse"
    spec = TaskSpec("tiny", kind, image="image", metric=metric)
    inner = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    processor = PictureProcessor(inner, lambda shape: (shape[1] // PATCH) * (shape[2] // PATCH) + 1)
    splits = [_split(kind, size, seed, processor) for seed, size in enumerate((train, rest, rest))]
    num_labels = 3 if kind == "classification" else 1
    return TaskData(spec, *splits, label_names=None, num_labels=num_labels, pad_id=0, report={})


def _split(kind: TaskKind, size: int, seed: int, processor: PictureProcessor) -> PictureSplit:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, size)
    noise = draw.integers(0, 86, (size, 3, SIDE, SIDE))
    pixels = torch.from_numpy((noise + 85 * labels[:, None, None, None]).astype(np.uint8))
    return PictureSplit(pixels, processor, torch.from_numpy(labels if kind == "classification" else labels / 2).to(
        torch.int64 if kind == "classification" else torch.float32
    ))  # fmt: skip
