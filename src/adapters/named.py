"""`model.projections`: places that a person names in the config, and what to say where they, or a table, do not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from src.adapters.architectures import ARCHITECTURES, Table
from src.adapters.places import SYNTAX
from src.errors import ConfigError
from src.spec import LETTERS, Letter
from src.spec.targets import STACKS

KEY = "model.projections"
Shapes = Mapping[str, tuple[int, int]]
_MOST_LISTED = 40


def table_from(named: Mapping[str, str]) -> Table:
    """The config's mapping in the form of a table, its stacks in their usual order.

    Args:
        named: letter to place, or ``stack/letter`` to place for an encoder-decoder model.

    Raises:
        ConfigError: a key of another form, none at all, or some with a stack and some without.
    """
    table: dict[str, dict[Letter, str]] = {stack: {} for stack in ("", *STACKS)}
    for where, text in named.items():
        stack, slash, name = where.rpartition("/")
        letter = next((letter for letter in LETTERS if letter == name), None)
        if letter is None or stack not in table or bool(slash) != bool(stack):
            raise ConfigError(
                KEY, where, "letters of qkvougd before the colon, in an encoder-decoder model after the stack and a "
                "slash: encoder/q, decoder/q, cross/q"
            )  # fmt: skip
        table[stack][letter] = text
    filled = {stack: places for stack, places in table.items() if places}
    if not filled or ("" in filled and len(filled) > 1):
        raise ConfigError(
            KEY, dict(named), "at least one letter, and all with a stack, as in encoder/q, or all without"
        )
    return filled


def no_table(model_type: str, shapes: Shapes) -> ConfigError:
    """The architecture is unknown and nothing is named.

    Args:
        shapes: the model's linear layers, (d_in, d_out) by name.
    """
    example = next((name for name in map(without_layer, shapes) if "{i}" in name), "encoder.layer.{i}.attention.query")
    return ConfigError(
        KEY, None, f"a module for each letter to adapt, as the architecture {model_type!r} has no projection table; "
        f"there are tables for {', '.join(sorted(ARCHITECTURES))}. Write {{letter: place}}, as {{q: '{example}'}}, "
        f"where a place is {SYNTAX}. The linear layers of this model, inputs x outputs, are\n{list_linear(shapes)}"
    )  # fmt: skip


def misfit(where: str, text: str, allowed: str, *, table: str | None) -> ConfigError:
    """A place does not fit the model.

    Args:
        where: letter, or stack/letter.
        text: the place.
        allowed: what would fit.
        table: the architecture in whose table it stands, None where it was named.
    """
    if table is None:
        return ConfigError(f"{KEY}.{where}", text, allowed)
    return ConfigError(
        KEY, None, f"modules of your own, as the table of {table} does not fit this model: it has {text} for {where}, "
        f"where there should be {allowed}"
    )  # fmt: skip


def list_linear(shapes: Shapes) -> str:
    """One line for each linear layer that repeats from layer to layer: name, inputs x outputs, how often."""
    counts = Counter((without_layer(name), d_in, d_out) for name, (d_in, d_out) in shapes.items())
    lines = [
        f"  {name} {d_in} x {d_out}" + (f" ({count} layer{'s' * (count > 1)})" if "{i}" in name else "")
        for (name, d_in, d_out), count in counts.items()
    ]
    more = [f"  ... and {len(lines) - _MOST_LISTED} more"] if len(lines) > _MOST_LISTED else []
    return "\n".join(lines[:_MOST_LISTED] + more)


def without_layer(name: str) -> str:
    """The name with {i} for its first number, which in transformers' models is the layer."""
    parts = name.split(".")
    at = next((at for at, part in enumerate(parts) if part.isdecimal()), None)
    return name if at is None else ".".join([*parts[:at], "{i}", *parts[at + 1 :]])
