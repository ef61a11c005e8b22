"""From lanes' batches to what the backbone is called with, and from what it puts out back to the lanes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from src.data import IGNORED, Batch
from src.models.attention import packed_attention
from src.models.loading import Base
from src.models.packing import FULL, Layout, can_pack, filled_share, lay_out, packed_inputs, token_rows, unpack
from src.spec import RunSpec


class Feed:
    """Texts end to end where the model can and it pays, else row blocks one under the other, padded to the longest.

    Args:
        spec: of one of the pack's cells.
        pad_id: token that fills rows up.

    Attributes:
        packs: whether texts may stand end to end.
    """

    def __init__(self, base: Base, spec: RunSpec, pad_id: int) -> None:
        self._base, self._pad_id = base, pad_id
        self.packs = can_pack(base, spec)
        weight = next(base.model.parameters())
        self._device, self._dtype = weight.device, weight.dtype

    def lay_out(self, batches: Sequence[Batch]) -> Layout | None:
        """Where the texts stand if they stand end to end, else None: which is faster follows from their lengths.

        In bfloat16 torch's fused attention is slow on CPUs, so that it is worth avoiding even without padding.
        """
        if not self.packs or (filled_share(batches) >= FULL and not self._fused_is_slow()):
            return None
        return lay_out(batches, self._device)

    def _fused_is_slow(self) -> bool:
        config: Any = self._base.model.config
        return config._attn_implementation != "eager" and self._device.type == "cpu" and self._dtype == torch.bfloat16

    def rows(
        self, batches: Sequence[Batch], layout: Layout | None, *, training: bool
    ) -> tuple[tuple[int, ...], tuple[Tensor, ...]]:
        """What the roster has to know of a layout, empty without one: only training draws masks for tokens."""
        if layout is None:
            return (), ()
        return layout.offsets, token_rows(batches, self._device) if training else ()

    def attention(self, layout: Layout | None) -> AbstractContextManager[None]:
        """While the backbone runs on inputs of this layout."""
        return packed_attention(self._base.model.config, layout)

    def inputs(self, batches: Sequence[Batch], layout: Layout | None = None) -> dict[str, Tensor]:
        """The backbone's inputs: 1 x T with a layout, (lanes * b) x L without."""
        if layout is not None:
            return packed_inputs(batches, layout, self._base.model.config, self._device)
        pictures = [b.pixel_values for b in batches if b.pixel_values is not None]
        if pictures:
            return {"pixel_values": torch.cat(pictures).to(self._device, self._dtype)}
        length = max(batch.length for batch in batches)
        inputs = {
            "input_ids": _pile([b.input_ids for b in batches if b.input_ids is not None], length, self._pad_id),
            "attention_mask": _pile([b.attention_mask for b in batches], length, 0),
        }
        types = [b.token_type_ids for b in batches if b.token_type_ids is not None]
        if types:
            inputs["token_type_ids"] = _pile(types, length, 0)
        if batches[0].decodes:
            model: Any = self._base.model
            targets = _pile([b.labels for b in batches], max(b.target_length for b in batches), IGNORED)
            inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(targets)
        return {name: tensor.to(self._device) for name, tensor in inputs.items()}

    def arranged(self, states: Tensor, batches: Sequence[Batch], layout: Layout | None) -> Tensor:
        """Hidden states (lanes * b) x L x d in the form in which the backbone has them with this layout."""
        if layout is None:
            return states
        mask = _pile([batch.attention_mask for batch in batches], states.shape[1], 0).bool()
        return states[mask.to(states.device)].unsqueeze(0)

    def by_lane(self, hidden: Tensor, batches: Sequence[Batch], layout: Layout | None) -> list[Tensor]:
        """Each lane's part of the backbone's output: b x L x d."""
        if layout is not None:
            return unpack(hidden[0], batches, layout)
        return list(hidden.unflatten(0, (len(batches), -1)).unbind(0))


def _pile(blocks: Sequence[Tensor], length: int, fill: int) -> Tensor:
    return torch.cat([F.pad(block, (0, length - block.shape[1]), value=fill) for block in blocks])
