"""The small language that says where a letter lives, in the tables and in `model.projections`.

    encoder.layer.{i}.attention.self.query       a module of each layer i; without {i}, a module of the only layer
    h.{i}.attn.c_attn[0/3]                       the first of three equal parts of its output units, one after another
    layers.{i}.attention.query_key_value[0/3 per num_attention_heads]
                                                 the same within each head: q, k, v of head 0, q, k, v of head 1, ...
    layers.{i}.self_attn.qkv_proj[1/num_attention_heads:num_key_value_heads:num_key_value_heads]
                                                 the second of three parts with sizes in this proportion

A number may be the name of one in the model's config. Parts are counted from 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from src.adapters.rows import Rows

LAYER = "{i}"
SYNTAX = (
    "a module's dotted name with {i} for the layer, and for a part of a fused weight [part/parts] behind it, such as "
    "h.{i}.attn.c_attn[0/3], [0/3 per 12] where each of 12 heads has its three parts side by side, or [0/4:1:1] for "
    "parts of unequal size; a number may be the name of one in the model's config"
)
_PLACE = re.compile(r"(?P<module>[^\s\[\]]+)(\[(?P<part>\d+)/(?P<sizes>\w+(:\w+)*)( per (?P<blocks>\w+))?\])?")


class MisfitError(ValueError):
    """What is written does not fit the model; the message says what would."""


@dataclass(frozen=True)
class Place:
    """A letter's home in each layer.

    Attributes:
        module: dotted name inside the backbone, with ``{i}`` for the layer's index.
        part: which of the parts, counted from 0.
        sizes: proportion of the parts, or their number where they are equal; names are looked up in the config.
        blocks: in how many blocks of equal size the parts repeat.
    """

    module: str
    part: int = 0
    sizes: tuple[str, ...] = ("1",)
    blocks: str = "1"

    def matches(self, name: str) -> re.Match[str] | None:
        """Match of a module's whole name, whose one group, if any, is the layer."""
        return re.fullmatch(r"(\d+)".join(map(re.escape, self.module.split(LAYER))), name)

    def rows(self, out: int, config: Any) -> Rows:
        """The letter's units of a weight with `out` output units.

        Raises:
            MisfitError: a part that there is not, a size that does not divide `out`, an unknown name.
        """
        sizes = [_number(size, config) for size in self.sizes]
        if len(sizes) == 1:
            sizes = [1] * sizes[0]
        blocks = _number(self.blocks, config)
        if self.part >= len(sizes):
            raise MisfitError(f"a part from 0 to {len(sizes) - 1}, as there are {len(sizes)} parts")
        if out % (blocks * sum(sizes)):
            raise MisfitError(
                f"parts that divide the {out} output units of this weight, which {self._grid(blocks)} do not"
            )
        unit, stride = out // (blocks * sum(sizes)), out // blocks
        run = sizes[self.part] * unit
        return Rows(sum(sizes[: self.part]) * unit, blocks * run, blocks, stride if blocks > 1 else 0)

    def _grid(self, blocks: int) -> str:
        parts = ":".join(self.sizes)
        return f"{blocks} x {parts}" if blocks > 1 else parts


def parse_place(text: str) -> Place:
    """Raises:
    MisfitError: not of the form that the module's docstring describes.
    """
    match = _PLACE.fullmatch(text.strip())
    if match is None or text.count(LAYER) > 1:
        raise MisfitError(SYNTAX)
    if match["part"] is None:
        return Place(match["module"])
    return Place(match["module"], int(match["part"]), tuple(match["sizes"].split(":")), match["blocks"] or "1")


def _number(text: str, config: Any) -> int:
    value = int(text) if text.isdecimal() else getattr(config, text, None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise MisfitError(f"whole numbers of at least 1, or names of such in the model's config, which {text} is not")
    return value
