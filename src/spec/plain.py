"""What holds for every value of a spec, whatever it means: it can be written down and read back exactly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from src.errors import ConfigError

# Signed 64 bits: what tables, JSON readers and torch take.
LARGEST = 2**63 - 1
LONGEST = 10_000  # characters of any text
LONGEST_PATH = 1_000  # characters
# Texts over several lines: templates.
_LINES = frozenset({"task.prompt", "task.completion"})
_PATHS = frozenset({"model.path", "task.path", "task.test_path", "output_dir", "cache_dir"})


def check_plain(spec: Any) -> None:
    """Raises:
    ConfigError: a number that is not finite or too large, or a text that no file or record can hold.
    """
    for key, value in _values(spec, ""):
        if isinstance(value, bool):
            continue
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ConfigError(key, value, f"a whole number of at most {LARGEST}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(key, value, "a finite number")
        if isinstance(value, str):
            _check_text(key, value)


def _check_text(key: str, value: str) -> None:
    longest = LONGEST_PATH if key in _PATHS else LONGEST
    if len(value) > longest:
        raise ConfigError(key, value, f"at most {longest:,} characters")
    control = any(c == "\0" or (c < " " and key not in _LINES) or "\ud800" <= c <= "\udfff" for c in value)
    if control:
        raise ConfigError(key, value, "text of one line, without control characters and in valid UTF-8")


def _values(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a spec, those of mappings under the mapping's key."""
    if dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            yield from _values(getattr(value, f.name), f"{key}.{f.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from [(key, name), (key, item)]
    else:
        yield key, value
