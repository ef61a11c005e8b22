"""Look into plain nodes of a config: at every depth, and at one key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def walk(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values at any depth."""
    waiting: list[tuple[str, Any]] = [(prefix.rstrip("."), value)]
    while waiting:
        key, item = waiting.pop()
        if isinstance(item, Mapping):
            inner = [(f"{key}.{name}".lstrip("."), found) for name, found in item.items()]
        else:
            inner = [(f"{key}.{place}", found) for place, found in enumerate(item)] if isinstance(item, list) else []
        waiting += inner
        yield from inner


def value_at(value: Any, key: str) -> Any:
    """What stands at a dotted key; None where nothing does.

    Where a node on the way is no mapping, that node: an interpolation in its place may hold the key.
    """
    for part in key.split("."):
        if not isinstance(value, Mapping):
            break
        value = value.get(part)
    return value
