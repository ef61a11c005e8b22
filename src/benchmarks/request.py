"""What a person asks of a benchmark: its own options, and the composed config. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.benchmarks.found import Found
from src.errors import ConfigError
from src.spec import RunSpec, Settings


@dataclass(frozen=True)
class Number:
    """An option that takes one whole number.

    Attributes:
        default: None where the benchmark itself finds one.
    """

    default: int | None
    least: int = 1

    def read(self, key: str, text: str) -> int:
        """Raises:
        ConfigError: not such a number.
        """
        if not _is_whole(text, self.least):
            raise ConfigError(key, text, f"a whole number of at least {self.least}")
        return int(text)


@dataclass(frozen=True)
class Numbers:
    """An option that takes whole numbers with commas between them; a tuple without repetitions."""

    default: tuple[int, ...]
    least: int = 1

    def read(self, key: str, text: str) -> tuple[int, ...]:
        """Raises:
        ConfigError: not such numbers.
        """
        parts = text.split(",")
        if not all(_is_whole(part, self.least) for part in parts):
            raise ConfigError(key, text, f"whole numbers of at least {self.least} with commas between them")
        return tuple(dict.fromkeys(int(part) for part in parts))


@dataclass(frozen=True)
class Words:
    """An option that takes words with commas between them; a tuple without repetitions.

    Attributes:
        default: empty where the benchmark itself chooses.
        allowed: None for any.
    """

    default: tuple[str, ...]
    allowed: tuple[str, ...] | None = None

    def read(self, key: str, text: str) -> tuple[str, ...]:
        """Raises:
        ConfigError: an empty word, or one that is not allowed.
        """
        parts = [part.strip() for part in text.split(",")]
        if not all(part and (self.allowed is None or part in self.allowed) for part in parts):
            listed = "words" if self.allowed is None else ", ".join(self.allowed)
            raise ConfigError(key, text, f"{listed}; several with commas between them")
        return tuple(dict.fromkeys(parts))


@dataclass(frozen=True)
class Fractions:
    """An option that takes probabilities below 1 with commas between them; a tuple without repetitions."""

    default: tuple[float, ...]

    def read(self, key: str, text: str) -> tuple[float, ...]:
        """Raises:
        ConfigError: not such numbers.
        """
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = (1.0,)
        if not all(0 <= value < 1 for value in values):
            raise ConfigError(key, text, "numbers in [0, 1) with commas between them")
        return tuple(dict.fromkeys(values))


Option = Number | Numbers | Words | Fractions


@dataclass(frozen=True)
class Request:
    """One call of `python -m src.bench`.

    Attributes:
        what: the benchmark's name.
        options: its own options by name, defaults filled in; a value is of the type that the Option's `read` gives.
        overrides: the rest of the command, with which spec and settings were composed.
        command: as it was typed.
    """

    what: str
    spec: RunSpec
    settings: Settings
    options: Mapping[str, Any]
    overrides: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Benchmark:
    """An entry of the list in src/bench.py.

    Attributes:
        run: measures; imports what is heavy only when it is called.
        options: by name; all other keys go to the config.
    """

    run: Callable[[Request], Found]
    options: Mapping[str, Option]


def split_arguments(
    arguments: Sequence[str], options: Mapping[str, Option], short: Mapping[str, str]
) -> tuple[list[str], dict[str, Any]]:
    """Overrides for the config, and the benchmark's own options with defaults filled in.

    Args:
        short: names that stand for longer keys of the config.

    Raises:
        ConfigError: an own option has a value that is not allowed.
    """
    overrides: list[str] = []
    own: dict[str, Any] = {name: option.default for name, option in options.items()}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if key in options and sign:
            own[key] = options[key].read(key, value)
        else:
            overrides.append(f"{short.get(key, key)}{sign}{value}")
    return overrides, own


def _is_whole(text: str, least: int) -> bool:
    text = text.strip()
    return text.isascii() and text.isdigit() and int(text) >= least
