"""Options of benchmarks: what is read, what is refused, what is left to the config."""

from __future__ import annotations

import pytest

from src.benchmarks.request import Fractions, Number, Numbers, Words, split_arguments
from src.errors import ConfigError

OPTIONS = {
    "rounds": Number(10, least=5),
    "lanes": Numbers((1, 8)),
    "dtype": Words((), ("float32", "bfloat16")),
    "dropout": Fractions((0.0, 0.1)),
}


def test_own_options_and_the_rest() -> None:
    given = ["rounds=7", "model=smollm2", "rank=4", "lanes=8,1,8", "dtype=bfloat16", "dropout=0.5"]
    overrides, own = split_arguments(given, OPTIONS, {"rank": "lora.rank"})
    assert overrides == ["model=smollm2", "lora.rank=4"]
    assert own == {"rounds": 7, "lanes": (8, 1), "dtype": ("bfloat16",), "dropout": (0.5,)}


def test_defaults() -> None:
    assert split_arguments([], OPTIONS, {}) == (
        [],
        {"rounds": 10, "lanes": (1, 8), "dtype": (), "dropout": (0.0, 0.1)},
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("rounds=4", "rounds is '4'; allowed: a whole number of at least 5."),
        ("rounds=5,6", "rounds is '5,6'; allowed: a whole number"),
        ("lanes=0", "lanes is '0'; allowed: whole numbers of at least 1 with commas"),
        ("dtype=half", "dtype is 'half'; allowed: float32, bfloat16; several with commas"),
        ("dropout=1", "dropout is '1'; allowed: numbers in [0, 1)"),
        ("dropout=a", "dropout is 'a'; allowed: numbers in [0, 1)"),
    ],
)
def test_what_is_not_allowed_is_said(wrong: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_arguments([wrong], OPTIONS, {})
    assert str(caught.value).startswith(said)
