from __future__ import annotations

import pytest

from src.data.templates import parse_template
from src.errors import ConfigError

COLUMNS = ["source", "my column", "n"]


@pytest.mark.parametrize(
    ("text", "body", "cue", "columns"),
    [
        ("{source}\n#", "{source}\n#".removesuffix("\n#"), "\n#", ("source",)),
        ("Q: {source}", "Q: {source}", "", ("source",)),
        ("{source} and {my column} {{x}} =", "{source} and {my column}", " {x} =", ("source", "my column")),
        ("{{{n:03d}}}", "{{{n:03d}", "}", ("n",)),
    ],
)
def test_body_and_cue(text: str, body: str, cue: str, columns: tuple[str, ...]) -> None:
    template = parse_template(text, COLUMNS, "task.prompt")
    assert (template.body, template.cue, template.columns) == (body, cue, columns)
    row = {"source": "{s}", "my column": "m", "n": 7}
    assert template.fill(row) + template.cue == text.format_map(row)


def test_a_missing_value_is_empty_text() -> None:
    assert parse_template("a{source}b{n}", COLUMNS, "task.prompt").fill({"source": None, "n": 1}) == "ab1"


@pytest.mark.parametrize(
    "text", ["", "no column", "{", "{}", "{0}", "{other}", "{source.upper}", "{source[0]}", "{n:{n}}"]
)
def test_what_is_no_template_lists_the_columns(text: str) -> None:
    with pytest.raises(ConfigError, match="source, my column, n"):
        parse_template(text, COLUMNS, "task.prompt")


def test_a_format_that_does_not_suit_the_value() -> None:
    with pytest.raises(ConfigError, match=r"task\.prompt"):
        parse_template("{source:03d}", COLUMNS, "task.prompt").fill({"source": "text"})
