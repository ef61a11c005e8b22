"""Type hints of the specs, each evaluated once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_type_hints


@functools.cache
def hints_of(spec: Any) -> Mapping[str, Any]:
    """Type of each field, by name."""
    return MappingProxyType(get_type_hints(spec))
