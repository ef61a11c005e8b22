"""Copies of a model that share its weights, so that all sides of a comparison compute with the same ones."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch

from src.models.loading import Base
from src.models.seq2seq import backbone_of, text_head


def copy_base(base: Base) -> Base:
    """Modules of its own over the same weights, so that one can be changed while another runs."""
    shared = [*base.model.parameters(), *base.model.buffers()]
    return copy.deepcopy(base, {id(tensor): tensor for tensor in shared})


def stock_copy(base: Base) -> Base:
    """The model as transformers itself makes it from its config, over the same weights: what a peer starts from."""
    model: Any = base.model
    with torch.device("meta"):
        stock = type(model)(copy.deepcopy(model.config))
    stock.load_state_dict(model.state_dict(), assign=True)
    # Such as a table of rotations, which no state holds.
    for name, buffer in model.named_buffers():
        owner, _, leaf = name.rpartition(".")
        stock.get_submodule(owner)._buffers[leaf] = buffer
    stock.tie_weights()
    stock.requires_grad_(False).eval()
    output = None if base.output is None else text_head(stock)
    return dataclasses.replace(base, model=stock, backbone=backbone_of(stock), output=output)
