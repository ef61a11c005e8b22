"""What a config key accepts, in words, for messages; read off the types of the specs."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, get_args, get_origin

from src.config.schema import alternatives, without_none
from src.spec import FrozenMap, RunSpec, Settings
from src.spec.hints import hints_of

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@functools.cache
def hint_of(key: str) -> Any:
    """Type hint of a dotted key in the specs; None where there is no such key."""
    hints: dict[str, Any] = {**hints_of(Settings), **hints_of(RunSpec)}
    *groups, last = key.split(".")
    for group in groups:
        node = hints.get(group)
        hints = dict(hints_of(node)) if isinstance(node, type) and dataclasses.is_dataclass(node) else {}
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
    words = " or ".join(map(_words, alternatives(inner)))
    return f"{words}, or null" if optional or key == "study" else words


def _words(inner: Any) -> str:
    if dataclasses.is_dataclass(inner):
        return "a group with the keys " + ", ".join(f.name for f in dataclasses.fields(inner))
    if get_origin(inner) is Literal:
        return " or ".join(map(str, get_args(inner)))
    if get_origin(inner) is FrozenMap:
        return f"{{name: {WORDS[get_args(inner)[0]]}, ...}}"
    if get_origin(inner) is tuple:
        return f"[{WORDS[get_args(inner)[0]]}, ...]"
    return WORDS.get(inner, "a key of the config")
