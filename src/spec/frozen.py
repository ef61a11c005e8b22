"""A mapping that a frozen spec can hold: it cannot be changed, and it can be hashed."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

V = TypeVar("V")


class FrozenMap(dict[str, V]):
    """A dict for use as a value; the order of its keys is kept and does not count in comparisons."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def __setitem__(self, *_: Any) -> NoReturn:
        raise TypeError("a FrozenMap cannot be changed")

    __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = __setitem__  # type: ignore[assignment]
