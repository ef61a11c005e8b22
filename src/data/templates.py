"""Templates over columns, for causal_lm and seq2seq: ``"{source}\\n#"``."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from src.errors import ConfigError

# Format specifications: none that are filled in themselves, and no width that fills the memory.
_PLAIN = re.compile(r"(?!.*\d{4})[^{}]{0,20}", re.DOTALL)


@dataclass(frozen=True)
class Template:
    """A str.format template, split after its last column.

    Attributes:
        key: config key, for messages.
        body: up to and with the last column; what a too long prompt is cut in.
        cue: the literal text after it (``"\\n#"``), which is never cut, so that every prompt ends alike.
        columns: names of the columns in `body`.
    """

    key: str
    body: str
    cue: str
    columns: tuple[str, ...]

    def fill(self, row: Mapping[str, object]) -> str:
        """The body with a row's values; a missing value is empty text.

        Raises:
            ConfigError: a format specification does not suit a value.
        """
        values = {name: "" if row[name] is None else row[name] for name in self.columns}
        try:
            return self.body.format_map(values)
        except (ValueError, TypeError) as error:
            raise ConfigError(self.key, self.body + self.cue, f"format specifications that suit {values}") from error


def parse_template(text: str, columns: Collection[str], key: str) -> Template:
    """Check a template against the columns that there are.

    Raises:
        ConfigError: not a str.format template, no column in it, or an unknown one; the message lists the columns.
    """
    allowed = (
        f"a template with columns of the data, such as {{{min(columns, default='text')}}}; it has {_listed(columns)}"
    )
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ConfigError(key, text, allowed) from error
    names = tuple(name for _, name, _, _ in parts if name is not None)
    plain = all(_PLAIN.fullmatch(spec or "") for _, _, spec, _ in parts)
    # str.format would look up attributes and items of what stands before a dot or a bracket.
    if not names or not set(names) <= set(columns) or not plain or any(set(name) & set(".[") for name in names):
        raise ConfigError(key, text, allowed)
    last = max(index for index, part in enumerate(parts) if part[1] is not None)
    cue = "".join(literal for literal, *_ in parts[last + 1 :])
    # A literal brace of the cue is doubled in the template, so it cannot be cut off by length.
    body = text[: len(text) - len(cue.replace("{", "{{").replace("}", "}}"))]
    return Template(key, body, cue, names)


def _listed(columns: Collection[str]) -> str:
    return ", ".join(columns) or "none"
