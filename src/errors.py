"""Errors that a person is meant to read: one paragraph, an exit code, no traceback."""

from __future__ import annotations

from collections.abc import Sequence


class HarnessError(Exception):
    """Something outside the code is wrong (network, file, data, disk); the process exits with 1."""

    exit_code = 1


class ConfigError(HarnessError):
    """A configuration value is not allowed; the process exits with 2.

    Args:
        key: dotted config key, for example ``lora.rank``.
        value: what was given.
        allowed: what would have been accepted, in words.
    """

    exit_code = 2

    def __init__(self, key: str, value: object, allowed: str) -> None:
        self.key, self.value, self.allowed = key, value, allowed
        shown = "nothing" if value is None else repr(value)
        super().__init__(f"{key} is {shown}; allowed: {allowed}.")

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
        lines = [f"  {name}: {error}" for name, error in problems[: self.most_shown]]
        if len(problems) > self.most_shown:
            lines.append(f"  ... and {len(problems) - self.most_shown} more")
        heading = f"Nothing was started: {len(problems)} of {num_cells} cells cannot be run."
        super().__init__("\n".join([heading, *lines]))

    def __reduce__(self) -> tuple[type[BadCellsError], tuple[tuple[tuple[str, ConfigError], ...], int]]:
        return type(self), (self.problems, self.num_cells)


class WriteError(HarnessError):
    """The system refused to write (no permission, full disk); nothing half-written was left."""


class DivergedError(HarnessError):
    """A lane's loss or gradient stopped being finite."""


class InterruptedRunError(HarnessError):
    """The process was asked to stop (SIGINT, SIGTERM); checkpoints were written."""

    exit_code = 130
