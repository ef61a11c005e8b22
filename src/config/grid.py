"""Compose the cells of a sweep: with Hydra once for each choice of groups, and value by value from there.

Hydra takes a tenth of a second for one cell, most of it for what neighbouring cells have in common. Here an override of
one value (lora.rank=4) is checked against the schema once and put in place; what an interpolation refers to, mappings
and the like are resolved by OmegaConf once for each combination that occurs; for everything else, and to tell an error,
Hydra composes the cell itself. The result is that of Hydra's own composition for every cell.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.convert import Values
from src.config.interpolations import BEGIN, is_among, names_in, texts_in
from src.config.schema import Config

Compose = Callable[[list[str]], DictConfig]


class _Unusual(Exception):  # noqa: N818 - a turn, not an error
    """A cell that Hydra itself has to compose."""


@dataclass(frozen=True)
class _Value:
    """An override of one key of the schema.

    Attributes:
        text: as typed.
        value: what Hydra's grammar makes of it.
        is_plain: whether the key's new value follows from it alone.
    """

    text: str
    key: str
    value: Any
    is_plain: bool


class Grid:
    """Composes cells that have much in common.

    Args:
        compose: Hydra's own composition of a cell, less the node ``hydra``.
        groups: names of config groups at the top.
    """

    def __init__(self, compose: Compose, groups: Collection[str]) -> None:
        self._compose = compose
        self._keys = frozenset(_value_keys(Config)) - set(groups)
        self._parser = OverridesParser.create()
        self._parsed: dict[str, _Value | None] = {}
        self._heads: dict[str, str | None] = {}
        self._bases: dict[tuple[str, ...], _Base] = {}

    def cell(self, overrides: Sequence[str]) -> DictConfig | Values:
        """A cell's plain values, interpolations resolved; or its config, where Hydra has to compose it by itself.

        Values are shared between cells and must not be changed.

        Raises:
            hydra.errors.HydraException: as Hydra's own composition.
        """
        try:
            return self._cheaply(overrides)
        except (_Unusual, OmegaConfBaseException, HydraException, ValueError):
            pass  # where something is wrong, Hydra says so in its own order
        return self._compose(list(overrides))

    def _cheaply(self, overrides: Sequence[str]) -> Values:
        values = [value for text in overrides if (value := self._value(text))]
        rest = tuple(text for text in overrides if self._value(text) is None)
        heads = {value.key.partition(".")[0] for value in values}
        if not heads.isdisjoint(filter(None, map(self._head, rest))):
            raise _Unusual
        return self._base(rest).cell(values)

    def _base(self, rest: tuple[str, ...]) -> _Base:
        if rest not in self._bases:
            self._bases[rest] = _Base(self._compose(list(rest)))
        return self._bases[rest]

    def _value(self, text: str) -> _Value | None:
        """The override of a value; None for one that Hydra has to see."""
        if text not in self._parsed:
            override = self._parse(text)
            self._parsed[text] = _as_value(override, text) if override and self._sets(override) else None
        return self._parsed[text]

    def _sets(self, override: Override) -> bool:
        is_change = override.type is OverrideType.CHANGE and override.package is None
        return is_change and override.value_type is ValueType.ELEMENT and override.key_or_group in self._keys

    def _head(self, text: str) -> str | None:
        """First part of a key to which an override does something in the order of the command line.

        None for the choice of a group, which comes before all values wherever it stands.
        """
        if text not in self._heads:
            override = self._parse(text)
            self._heads[text] = (
                None if override and self._chooses(override) else re.split(r"[./@=]", text.lstrip("+~"))[0]
            )
        return self._heads[text]

    def _chooses(self, override: Override) -> bool:
        key = override.key_or_group
        is_choice = override.type is OverrideType.DEL or isinstance(override.value(), str)
        return is_choice and "." not in key and key not in self._keys and override.package is None

    def _parse(self, text: str) -> Override | None:
        try:
            return self._parser.parse_overrides([text])[0]
        except HydraException:
            return None


class _Base:
    """What cells with the same groups have in common.

    Args:
        config: Hydra's composition of it.
    """

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._scratch = copy.deepcopy(config)
        raw = OmegaConf.to_container(config, resolve=False)
        assert isinstance(raw, dict)
        self._raw = raw
        self._names = names_in(texts_in(raw))
        self._resolved: dict[tuple[str, ...], Values | None] = {}
        self._tied: dict[str, bool] = {}
        self._typed: dict[str, Any] = {}

    def cell(self, overrides: Sequence[_Value]) -> Values:
        """The values of a cell.

        Raises:
            _Unusual, OmegaConfBaseException: Hydra has to compose it, if only to say what is wrong.
        """
        names = [
            names_in(texts_in(value.value, tuple(value.key.split(".")))) for value in overrides if not value.is_plain
        ]
        tied = {
            value.key
            for value in overrides
            if not value.is_plain or self._is_tied(value.key) or any(is_among(value.key, some) for some in names)
        }
        values = dict(self._resolve([value for value in overrides if value.key in tied]))
        for override in overrides:
            if override.key not in tied:
                _put(values, override.key, self._value(override))
        return values

    def _is_tied(self, key: str) -> bool:
        """Whether an interpolation refers to a key."""
        if key not in self._tied:
            self._tied[key] = is_among(key, self._names)
        return self._tied[key]

    def _resolve(self, overrides: Sequence[_Value]) -> Values:
        """Plain values after overrides that depend on others, or on which others depend."""
        key = tuple(value.text for value in overrides)
        if key not in self._resolved:
            self._resolved[key] = None
            config = copy.deepcopy(self._config)
            for override in overrides:
                OmegaConf.update(config, override.key, override.value, merge=True)
            resolved = OmegaConf.to_container(config, resolve=True)
            assert isinstance(resolved, dict)
            self._resolved[key] = {str(name): value for name, value in resolved.items()}
        found = self._resolved[key]
        if found is None:
            raise _Unusual
        return found

    def _value(self, override: _Value) -> Any:
        """An override's value as the schema types it."""
        if override.text not in self._typed:
            node: Any = self._raw
            for part in override.key.split("."):
                if not isinstance(node, dict) or part not in node:
                    raise _Unusual
                node = node[part]
            if isinstance(node, (dict, list)):
                raise _Unusual
            OmegaConf.update(self._scratch, override.key, override.value, merge=True)
            self._typed[override.text] = OmegaConf.select(self._scratch, override.key)
        return self._typed[override.text]


def _as_value(override: Override, text: str) -> _Value:
    value = override.value()
    tied = isinstance(value, (dict, list)) or (isinstance(value, str) and (BEGIN in value or value == MISSING))
    return _Value(text, override.key_or_group, value, not tied)


def _put(values: Values, key: str, value: Any) -> None:
    """Set a dotted key; the groups on the way are shared with other cells, and copied."""
    *groups, last = key.split(".")
    for group in groups:
        values[group] = dict(values[group])
        values = values[group]
    values[last] = value


def _value_keys(twin: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a schema that are no groups."""
    for f in dataclasses.fields(twin):
        if dataclasses.is_dataclass(f.type):
            yield from _value_keys(f.type, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}"
