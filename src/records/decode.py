"""JSON values to frozen dataclasses, checked against their type hints."""

from __future__ import annotations

import dataclasses
import math
import types
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from src.spec import FrozenMap


class DecodeError(ValueError):
    """A JSON value does not fit the type it is read as; the message names the field."""


def decode(kind: Any, value: Any, where: str = "") -> Any:
    """Value of type `kind` from parsed JSON; an exact inverse of `dataclasses.asdict` for the types below.

    Args:
        kind: a dataclass, Literal, union, ``dict[str, X]``, ``FrozenMap[X]``, ``tuple[X, ...]``, Any,
            None, or a JSON scalar type.
        value: a result of json.loads.
        where: dotted name of the field, for messages.

    Raises:
        DecodeError: unknown or missing field, wrong type, or a number that is not finite.
    """
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_object(kind, value, where)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(kind, value, where)
    if origin in (dict, FrozenMap):
        _expect(isinstance(value, dict), kind, value, where)
        items = {key: decode(get_args(kind)[-1], item, f"{where}.{key}") for key, item in value.items()}
        return FrozenMap(items) if origin is FrozenMap else items
    if origin is tuple:
        _expect(isinstance(value, list), kind, value, where)
        return tuple(decode(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    good = value in get_args(kind) if origin is Literal else _is_scalar(kind, value)
    return _expect(good, kind, value, where)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode_object(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), kind, value, where)
    prefix = f"{where}." if where else ""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise DecodeError(f"{prefix}{name} is not a known field")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise DecodeError(f"{prefix}{name} is missing")
    hints = _hints(kind)
    return kind(**{name: decode(hints[name], item, f"{prefix}{name}") for name, item in value.items()})


def _decode_union(kind: Any, value: Any, where: str) -> Any:
    options = get_args(kind)
    if value is None and type(None) in options:
        return None
    others = [option for option in options if option is not type(None)]
    if len(others) == 1:
        return decode(others[0], value, where)
    return _expect(any(_is_scalar(option, value) for option in others), kind, value, where)


def _is_scalar(kind: Any, value: Any) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:  # JSON writers may drop the fraction of a whole number
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


def _expect(good: bool, kind: Any, value: Any, where: str) -> Any:
    if not good:
        name = getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else str(kind)
        raise DecodeError(f"{where or 'the document'} is {_brief(value)}, not {name}")
    return value


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
