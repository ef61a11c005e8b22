"""The language of places: what it reads, which units it means, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.adapters.places import MisfitError, parse_place

CONFIG = SimpleNamespace(num_heads=4, num_kv=2, rate=0.5, flag=True)


def units(text: str, out: int) -> list[int]:
    return parse_place(text).rows(out, CONFIG).index().tolist()


@pytest.mark.parametrize(
    ("text", "out", "expected"),
    [
        ("m", 3, [0, 1, 2]),
        ("m[0/3]", 6, [0, 1]),
        ("m[2/3]", 6, [4, 5]),
        ("m[1/3 per 2]", 12, [2, 3, 8, 9]),
        ("m[0/2 per num_heads]", 8, [0, 2, 4, 6]),
        ("m[0/num_heads:num_kv:num_kv]", 16, list(range(8))),
        ("m[2/num_heads:num_kv:num_kv]", 16, [12, 13, 14, 15]),
        ("m[1/2:1:1 per num_kv]", 8, [2, 6]),
    ],
)
def test_units_by_hand(text: str, out: int, expected: list[int]) -> None:
    assert units(text, out) == expected


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4), blocks=st.integers(1, 4), unit=st.integers(1, 3))
def test_the_parts_are_what_splitting_each_block_gives_and_fill_the_weight(
    sizes: list[int], blocks: int, unit: int
) -> None:
    out = sum(sizes) * blocks * unit
    parts = torch.arange(out).view(blocks, -1).split([size * unit for size in sizes], dim=1)
    text = ":".join(map(str, sizes))
    assert [units(f"m[{part}/{text} per {blocks}]", out) for part in range(len(sizes))] == [
        part.flatten().tolist() for part in parts
    ]


@pytest.mark.parametrize(
    ("pattern", "name", "layer"),
    [
        ("h.{i}.attn[0/3]", "h.11.attn", "11"), ("h.{i}.attn", "h.1.attn.c", None), ("h.{i}.attn", "x.h.1.attn", None),
        ("h.{i}.attn", "h.a.attn", None), ("a.b", "a.b", ""), ("a.b", "aXb", None), ("{i}.a", "3.a", "3"),
    ],
)  # fmt: skip
def test_whole_names_match_with_the_layer(pattern: str, name: str, layer: str | None) -> None:
    match = parse_place(pattern).matches(name)
    assert (None if match is None else "".join(match.groups())) == layer


@pytest.mark.parametrize(
    "text", ["", "m[", "m[1]", "m[a/3]", "m[0/3]x", "m[0/3per 2]", "m n", "h.{i}.a.{i}", "m[0/:1]"]
)
def test_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(MisfitError, match=r"\[part/parts\] behind it"):
        parse_place(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("m[3/3]", "from 0 to 2"), ("m[2/4:4]", "from 0 to 1"), ("m[0/5]", "divide the 12 output units.* which 5 do"),
        ("m[0/2 per 4]", "which 4 x 2 do not"), ("m[0/rate]", "which rate is not"), ("m[0/flag]", "which flag is not"),
        ("m[0/3 per what]", "which what is not"), ("m[0/0]", "which 0 is not"), ("m[0/3 per 0]", "which 0 is not"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_weight_or_the_config_is_refused(text: str, said: str) -> None:
    with pytest.raises(MisfitError, match=said):
        parse_place(text).rows(12, CONFIG)
