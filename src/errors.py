"""Errors that a person is meant to read: one paragraph, an exit code, no traceback."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence

LONGEST_VALUE = 200  # characters of a value in a message
_SECRETS = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_IN_URL = re.compile(r"(\w:/{1,2})[^/\s@'\"]+@")


def brief(text: str, longest: int = LONGEST_VALUE) -> str:
    """A text for a message: on one line, and of one that is too long the beginning, and how long it is."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"


def counted(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number:,d} {noun}" if number == 1 else f"{number:,d} {noun}s"


def hide_secrets(text: str) -> str:
    """Without passwords in addresses, and without the keys that the environment holds."""
    for name in _SECRETS:
        value = os.environ.get(name, "")
        if len(value) >= 8:
            text = text.replace(value, "***")
    return _IN_URL.sub(r"\1***@", text)


class HarnessError(Exception):
    """Something outside the code is wrong (network, file, data, disk); the process exits with 1."""

    exit_code = 1


def _shown(value: object) -> str:
    if value is None:
        return "not set"
    try:
        return brief(hide_secrets(repr(value)))
    except ValueError:  # Python writes no whole numbers of more than 4300 digits
        return f"a {type(value).__name__} that is too large to be shown"


class ConfigError(HarnessError):
    """A configuration value is not allowed; the process exits with 2.

    Args:
        key: dotted config key, for example ``lora.rank``; or several, parted by a comma and a space.
        value: what was given; of several keys a tuple.
        allowed: what would have been accepted, in words.
    """

    exit_code = 2

    def __init__(self, key: str, value: object, allowed: str) -> None:
        self.key, self.value, self.allowed = key, value, allowed
        keys = key.split(", ")
        said = f"{key} is {_shown(value)}"
        if isinstance(value, tuple) and len(keys) == len(value) > 1:
            said = f"{' and '.join(keys)} are {' and '.join(map(_shown, value))}"
        super().__init__(f"{said}; allowed: {allowed}.")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        # Exceptions are pickled by their message; this one is made of three parts.
        return type(self), (self.key, self.value, self.allowed)


class BadCellsError(HarnessError):
    """Some cells of a sweep cannot be run, so none was started; the process exits with 2.

    Args:
        problems: a cell's name and what is wrong with it.
        num_cells: cells in all.
    """

    exit_code = 2
    most_shown = 20

    def __init__(self, problems: Sequence[tuple[str, ConfigError]], num_cells: int) -> None:
        self.problems, self.num_cells = tuple(problems), num_cells
        names: dict[str, list[str]] = {}
        for name, error in problems:
            names.setdefault(str(error), []).append(name)
        lines = [f"  {_named(cells, num_cells)}: {said}" for said, cells in list(names.items())[: self.most_shown]]
        if len(names) > self.most_shown:
            lines.append(f"  ... and {sum(map(len, list(names.values())[self.most_shown :]))} more")
        heading = f"Nothing was started: {len(problems)} of {num_cells} cells cannot be run."
        super().__init__("\n".join([heading, *lines]))

    def __reduce__(self) -> tuple[type[BadCellsError], tuple[tuple[tuple[str, ConfigError], ...], int]]:
        return type(self), (self.problems, self.num_cells)


def _named(cells: Sequence[str], num_cells: int) -> str:
    """Cells that share a problem."""
    if len(cells) == 1:
        return cells[0]
    return "all cells" if len(cells) == num_cells else f"{len(cells)} cells, such as {cells[0]}"


class WriteError(HarnessError):
    """The system refused to write (no permission, full disk); nothing half-written was left."""


class DivergedError(HarnessError):
    """A lane's loss or gradient stopped being finite."""


class InterruptedRunError(HarnessError):
    """The process was asked to stop (SIGINT, SIGTERM); checkpoints were written."""

    exit_code = 130


def do_each(names: Iterable[str], work: Callable[[str], int | None]) -> int:
    """Do work for one name after the other; an error is told, and does not stop the others.

    Args:
        work: gives an exit code, or None for 0.

    Returns:
        The exit code of all.
    """
    code = 0
    for name in names:
        try:
            code = max(code, work(name) or 0)
        except HarnessError as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            print(error, file=sys.stderr)
            code = max(code, error.exit_code)
    return code
