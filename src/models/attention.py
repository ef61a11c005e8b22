"""Attention over texts that stand end to end: bucket by bucket, with nothing saved that can be had again cheaply.

Everything goes through torch's scaled_dot_product_attention, which keeps no probabilities, but for bfloat16 on CPUs:
there its backward pass is slow (forward and backward of 12 heads of 32 on two cores: 16 texts of 64 tokens 17 ms
against 2.5 ms, 8 texts of 512 tokens 96 ms against 49 ms), so that scores are computed plainly, by batched products and
a softmax, and backward starts from the probabilities, which are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from src.models.packing import Bucket, Layout

NAME = "lora_sweep_packed"
# Up to this length the plain products are used on CPUs in bfloat16: from there on what is kept weighs more.
SHORT = 512
_active: list[Layout] = []


@contextlib.contextmanager
def packed_attention(config: Any, layout: Layout | None) -> Iterator[None]:
    """Within the block the model with this config attends as the layout says; None: as it always does."""
    if layout is None:
        yield
        return
    before = config._attn_implementation
    config._attn_implementation = NAME
    _active.append(layout)
    try:
        yield
    finally:
        _active.pop()
        config._attn_implementation = before


def active_layout() -> Layout | None:
    """The layout by which models attend at the moment."""
    return _active[-1] if _active else None


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """transformers' interface of attention functions.

    Args:
        query: 1 x heads x T x d, of all texts.
        key, value: 1 x groups x T x d, where `heads / groups` neighbouring heads share one.
        attention_mask: None, as the layout says who sees whom.
        options: scaling, is_causal and sliding_window as the model wants them.

    Returns:
        1 x T x heads x d, and None for the probabilities.
    """
    layout, scaling = _active[-1], options.get("scaling")
    causal = options.get("is_causal")
    causal = bool(getattr(module, "is_causal", True)) if causal is None else causal
    window = options.get("sliding_window")
    window = window if window is not None and window < layout.longest else None
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    q, k, v = (tensor.squeeze(0).transpose(0, 1).contiguous() for tensor in (query, key, value))
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and layout.longest <= SHORT:
        out: Tensor = _PlainAttention.apply(q, k, v, layout, scale, causal, window)
    else:
        out = _fused(q, k, v, layout, scale, causal, window)
    return out.unsqueeze(0), None


AttentionInterface.register(NAME, attend)


class _PlainAttention(torch.autograd.Function):
    """softmax(scale Q K^T) V for each text and head, from rows and to rows."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, causal: bool, window: int | None
    ) -> Tensor:
        heads, groups = q.shape[1], k.shape[1]
        outs, probabilities = [], []
        for number, bucket in enumerate(layout.buckets):
            qb = _take(q, layout, number, heads).mul_(scale)
            kb, vb = _take(k, layout, number, heads), _take(v, layout, number, heads)
            scores = torch.bmm(qb, kb.transpose(1, 2))
            blocked = _blocked(bucket, causal, window)
            if blocked is not None:
                scores.view(len(bucket.rows), heads, *scores.shape[1:]).masked_fill_(blocked, -torch.inf)
            probabilities.append(torch.softmax(scores, dim=-1))
            outs.append(torch.bmm(probabilities[-1], vb))
        ctx.save_for_backward(q, k, v, *probabilities)
        ctx.layout, ctx.scale, ctx.groups = layout, scale, groups
        return _put(outs, layout, heads)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *probabilities = ctx.saved_tensors
        layout, heads, groups = ctx.layout, q.shape[1], ctx.groups
        grad = grads[0].contiguous()
        of_q, of_k, of_v = [], [], []
        for number, (bucket, p) in enumerate(zip(layout.buckets, probabilities, strict=True)):
            gb = _take(grad, layout, number, heads)
            if bucket.valid is not None:
                # A query in the padding has no say in the gradients of keys and values.
                gb.view(len(bucket.rows), heads, *gb.shape[1:]).mul_(bucket.valid[:, None, :, None])
            of_v.append(_shared(torch.bmm(p.transpose(1, 2), gb), heads, groups))
            dp = torch.bmm(gb, _take(v, layout, number, heads).transpose(1, 2))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype).mul_(ctx.scale)
            of_q.append(torch.bmm(ds, _take(k, layout, number, heads)))
            of_k.append(_shared(torch.bmm(ds.transpose(1, 2), _take(q, layout, number, heads)), heads, groups))
        parts = (_put(of_q, layout, heads), _put(of_k, layout, groups), _put(of_v, layout, groups))
        return (*parts, None, None, None, None)


def _fused(  # noqa: PLR0917 - as _PlainAttention
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, causal: bool, window: int | None
) -> Tensor:
    heads, outs = q.shape[1], []
    if layout.uniform:
        qb, kb, vb = (t.unflatten(0, (-1, layout.longest)).transpose(1, 2) for t in (q, k, v))
        return _scores(qb, kb, vb, layout.buckets[0], scale, causal, window).transpose(1, 2).flatten(0, 1)
    for number, bucket in enumerate(layout.buckets):
        qb, kb, vb = (_take(t, layout, number, heads).unflatten(0, (-1, heads)) for t in (q, k, v))
        outs.append(_scores(qb, kb, vb, bucket, scale, causal, window).flatten(0, 1))
    return _put(outs, layout, heads)


def _scores(  # noqa: PLR0917 - as _PlainAttention
    q: Tensor, k: Tensor, v: Tensor, bucket: Bucket, scale: float, causal: bool, window: int | None
) -> Tensor:
    """n x heads x L x d of a bucket, from n x heads x L x d and keys and values of as many heads or of groups."""
    plain = causal and window is None
    blocked = None if plain else _blocked(bucket, causal, window)
    mask = None if blocked is None else ~blocked
    shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=plain, scale=scale, enable_gqa=shared)


def _blocked(bucket: Bucket, causal: bool, window: int | None) -> Tensor | None:
    """Which keys a query must not see, broadcast to n x heads x L x L.

    With a causal mask none of a text's own queries sees padding, which stands at its end.
    """
    if not causal:
        return None if bucket.valid is None else ~bucket.valid[:, None, None, :]
    positions = torch.arange(bucket.rows.shape[1], device=bucket.rows.device)
    distance = positions[:, None] - positions
    return (distance < 0) if window is None else (distance < 0) | (distance >= window)


def _take(rows: Tensor, layout: Layout, number: int, heads: int) -> Tensor:
    """(n * heads) x L x d of a bucket, from T x groups x d; a copy."""
    bucket, groups, width = layout.buckets[number], rows.shape[1], rows.shape[2]
    if layout.uniform and heads == groups:
        first = int(bucket.rows[0, 0])
        own = rows[first : first + bucket.rows.numel()].view(*bucket.rows.shape, groups, width)
        return own.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(0, 1)
    index = layout.gather_index(number, heads, groups)
    return rows.reshape(-1, width).index_select(0, index).view(-1, bucket.rows.shape[1], width)


def _put(parts: list[Tensor], layout: Layout, heads: int) -> Tensor:
    """T x heads x d, from (n * heads) x L x d of each bucket."""
    if layout.uniform:
        lengths = (-1, heads, layout.longest, parts[0].shape[-1])
        return torch.cat([part.view(lengths).transpose(1, 2).flatten(0, 1) for part in parts])
    flat = [part.reshape(-1, part.shape[-1]) for part in parts]
    whole = flat[0] if len(flat) == 1 else torch.cat(flat)
    return whole.index_select(0, layout.scatter_index(heads)).view(-1, heads, whole.shape[-1])


def _shared(part: Tensor, heads: int, groups: int) -> Tensor:
    """Gradients of keys or values: the sum over the heads that share one."""
    if heads == groups:
        return part
    return part.unflatten(0, (-1, groups, heads // groups)).sum(dim=2).flatten(0, 1)
