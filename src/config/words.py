"""What a config key accepts, in words, for messages; read off the types of the specs."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from src.config.schema import without_none
from src.spec import FrozenMap, RunSpec, Settings

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def hint_of(key: str) -> Any:
    """Type hint of a dotted key in the specs; None where there is no such key."""
    hints: dict[str, Any] = {**get_type_hints(Settings), **get_type_hints(RunSpec)}
    *groups, last = key.split(".")
    for group in groups:
        node = hints.get(group)
        hints = get_type_hints(node) if dataclasses.is_dataclass(node) else {}
    return hints.get(last)


def names_beside(key: str) -> list[str]:
    """Names of the keys in the group to which a dotted key belongs, or at the top; empty where there is no group."""
    group, _, _ = key.rpartition(".")
    if not group:
        return sorted({f.name for spec in (RunSpec, Settings) for f in dataclasses.fields(spec)})
    node = hint_of(group)
    return [f.name for f in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []


def allowed_type(key: str) -> str:
    """Type of a key's values in words: ``a whole number, or null``."""
    inner, optional = without_none(hint_of(key))
    if dataclasses.is_dataclass(inner):
        words = "a group with the keys " + ", ".join(f.name for f in dataclasses.fields(inner))
    elif get_origin(inner) is Literal:
        words = " or ".join(map(str, get_args(inner)))
    elif get_origin(inner) is FrozenMap:
        words = f"{{name: {WORDS[get_args(inner)[0]]}, ...}}"
    else:
        words = WORDS.get(inner, "a key of the config")
    return f"{words}, or null" if optional or key == "study" else words
