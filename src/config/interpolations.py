"""To which keys interpolations refer: found in their texts, without resolving them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

BEGIN, _NODE = "${", re.compile(r"\$\{(\.*)(\w[\w.]*)\}")
# Once nodes have given way to \0, only resolvers are left. What else there is can refer to anything: ${lora[rank]}, a
# name that is itself interpolated in part, or one that a resolver gets and that is relative (${oc.select:.rank}).
_UNUSUAL = re.compile(r"\$\{(?![\w.]+:)|\$\{\.|[^\s:,{(\[]\0|\0[^\s,})\]]|[\s:,{(\[]['\"]?\.")
_WORD = re.compile(r"[^\s:,{}()\[\]'\"$\0]+")


def texts_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Interpolations within a value that stands at a path, each with the path of what it is an item of."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from texts_in(inner, (*path, str(name)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts_in(inner, (*path, str(index)))
    elif isinstance(value, str) and BEGIN in value:
        yield path[:-1], value


def names_in(texts: Iterable[tuple[tuple[str, ...], str]]) -> frozenset[str] | None:
    """Names to which interpolations refer, among other words; None where that cannot be seen."""
    names: set[str] = set()
    for group, text in texts:
        for dots, name in _NODE.findall(text):
            names.add(".".join([*group[: len(group) + 1 - len(dots)], name] if dots else [name]))
        rest = _NODE.sub("\0", text)
        if BEGIN in rest:
            if _UNUSUAL.search(rest):
                return None
            names.update(_WORD.findall(rest))
    return frozenset(names)


def is_among(key: str, names: frozenset[str] | None) -> bool:
    """Whether one of some names is a key, a group that it belongs to, or a part of it; None stands for any name."""
    if names is None:
        return True
    parts = key.split(".")
    groups = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return not groups.isdisjoint(names) or any(name.startswith(f"{key}.") for name in names)
