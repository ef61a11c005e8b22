"""JSON values to frozen dataclasses, checked against their type hints.

A type's hints are looked at once and become a function; a study has thousands of records of one type.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from src.spec import FrozenMap

Decoder = Callable[[Any], Any]


class DecodeError(ValueError):
    """A JSON value does not fit the type it is read as; the message names the field."""


class _MisfitError(Exception):
    """A `DecodeError` on its way up, where each level adds its name: ``.lora``, ``[0]``."""

    def __init__(self, clause: str, where: str = "") -> None:
        self.clause, self.where = clause, where

    def inside(self, part: str) -> _MisfitError:
        return _MisfitError(self.clause, f"{part}{self.where}")


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
    try:
        return _decoder(kind)(value)
    except _MisfitError as error:
        name = f"{where}{error.where}".removeprefix(".")
        raise DecodeError(f"{name or 'the document'} {error.clause}") from None


@cache
def _decoder(kind: Any) -> Decoder:
    if kind is Any:
        return lambda value: value
    if dataclasses.is_dataclass(kind):
        return _object_decoder(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _union_decoder(kind)
    if origin in (dict, FrozenMap):
        return _map_decoder(kind, _decoder(arguments[-1]), origin)
    if origin is tuple:
        return _tuple_decoder(kind, _decoder(arguments[0]))
    return _checked(kind, arguments.__contains__ if origin is Literal else _scalar_test(kind))


def _object_decoder(kind: Any) -> Decoder:
    hints = get_type_hints(kind)
    decoders = {f.name: _decoder(hints[f.name]) for f in dataclasses.fields(kind)}
    required = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]

    def decode_object(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _misfit(kind, value)
        for name in value:
            if name not in decoders:
                raise _MisfitError("is not a known field", f".{name}")
        for name in required:
            if name not in value:
                raise _MisfitError("is missing", f".{name}")
        return kind(**_items(decoders, value))

    return decode_object


def _items(decoders: dict[str, Decoder], value: dict[str, Any]) -> dict[str, Any]:
    fields = {}
    for name, item in value.items():
        try:
            fields[name] = decoders[name](item)
        except _MisfitError as error:
            raise error.inside(f".{name}") from None
    return fields


def _map_decoder(kind: Any, decoder: Decoder, made: type[dict[str, Any]]) -> Decoder:
    def decode_map(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _misfit(kind, value)
        items = {}
        for key, item in value.items():
            try:
                items[key] = decoder(item)
            except _MisfitError as error:
                raise error.inside(f".{key}") from None
        return items if made is dict else made(items)

    return decode_map


def _tuple_decoder(kind: Any, decoder: Decoder) -> Decoder:
    def decode_tuple(value: Any) -> Any:
        if not isinstance(value, list):
            raise _misfit(kind, value)
        items = []
        for place, item in enumerate(value):
            try:
                items.append(decoder(item))
            except _MisfitError as error:
                raise error.inside(f"[{place}]") from None
        return tuple(items)

    return decode_tuple


def _union_decoder(kind: Any) -> Decoder:
    """Of None with one other type, whatever it is, or of scalars."""
    options = get_args(kind)
    others = [option for option in options if option is not type(None)]
    optional = len(others) < len(options)
    if len(others) == 1:
        decoder = _decoder(others[0])
    else:
        tests = [_scalar_test(option) for option in others]
        decoder = _checked(kind, lambda value: any(test(value) for test in tests))
    return (lambda value: None if value is None else decoder(value)) if optional else decoder


def _checked(kind: Any, good: Callable[[Any], bool]) -> Decoder:
    def decode_scalar(value: Any) -> Any:
        if not good(value):
            raise _misfit(kind, value)
        return value

    return decode_scalar


def _scalar_test(kind: Any) -> Callable[[Any], bool]:
    if kind is bool:
        return lambda value: isinstance(value, bool)
    if kind is float:
        return _is_number
    if kind is int:
        return _is_whole
    return lambda value: isinstance(value, kind) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """JSON writers may drop the fraction of a whole number."""
    if isinstance(value, float):
        return math.isfinite(value)
    return _is_whole(value)


def _is_whole(value: Any) -> bool:
    """Of at most 64 bits: what no run can have written, no table and no figure can show."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _misfit(kind: Any, value: Any) -> _MisfitError:
    name = getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else str(kind)
    return _MisfitError(f"is {_brief(value)}, not {name}")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
