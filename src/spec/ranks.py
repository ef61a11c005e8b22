"""``lora.ranks``: ranks for some matrices, by letters, by layers or by both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from src.errors import ConfigError
from src.spec.frozen import FrozenMap
from src.spec.targets import LETTERS

KEY = "lora.ranks"
ALLOWED = (
    "{where: rank, ...} with letters (q, qk), layers (3, 0-5) or both (q/0-5) before the colon and whole numbers of at "
    "least 1 behind it, such as {q: 4, v: 16}"
)
_WHERE = re.compile(r"(?P<letters>[a-z]+)?(?:(?P<slash>/)?(?P<first>\d+)(?:-(?P<last>\d+))?)?")


@dataclass(frozen=True)
class Rule:
    """Rank of the matrices that have one of the letters and lie in one of the layers; None means any."""

    where: str
    letters: frozenset[str] | None
    layers: range | None
    rank: int

    @property
    def name(self) -> str:
        """``vq`` is ``qv``, ``3-3`` is ``3``."""
        letters = "".join(letter for letter in LETTERS if letter in (self.letters or ()))
        span = self.layers
        layers = "" if span is None else f"{span[0]}" if len(span) == 1 else f"{span[0]}-{span[-1]}"
        return "/".join(filter(None, [letters, layers]))

    @property
    def weight(self) -> int:
        """The rule with the larger weight counts: both before layers, layers before letters."""
        return (self.letters is not None) + 2 * (self.layers is not None)

    def covers(self, letter: str, layer: int) -> bool:
        return (self.letters is None or letter in self.letters) and (self.layers is None or layer in self.layers)


def parse_ranks(ranks: Mapping[str, int]) -> tuple[Rule, ...]:
    """Rules in the order of the mapping.

    Raises:
        ConfigError: not of the form that the module's docstring gives.
    """
    return tuple(_rule(str(where), rank, ranks) for where, rank in ranks.items())


def canonical_ranks(ranks: Mapping[str, int]) -> FrozenMap[int]:
    """The same rules in one order and spelling, so that equal ranks have equal identities.

    Raises:
        ConfigError: one place twice, or as `parse_ranks`.
    """
    rules = sorted(parse_ranks(ranks), key=lambda rule: (rule.weight, rule.name))
    if len({rule.name for rule in rules}) < len(rules):
        raise ConfigError(KEY, ranks, "each place once: qv and vq, 3 and 3-3 are the same")
    return FrozenMap({rule.name: rule.rank for rule in rules})


def rank_of(rules: Iterable[Rule], letter: str, layer: int, default: int) -> int:
    """Rank of one matrix.

    Raises:
        ConfigError: two rules of one kind cover it.
    """
    covering = sorted((rule for rule in rules if rule.covers(letter, layer)), key=lambda rule: -rule.weight)
    if len(covering) > 1 and covering[0].weight == covering[1].weight:
        names = f"{covering[0].where} and {covering[1].where}"
        raise ConfigError(KEY, names, f"one of the two for {letter} of layer {layer}")
    return covering[0].rank if covering else default


def _rule(where: str, rank: int, ranks: Mapping[str, int]) -> Rule:
    match = _WHERE.fullmatch(where)
    letters, first = (match["letters"], match["first"]) if match else (None, None)
    good = match is not None and (letters or first) and bool(letters and first) == bool(match["slash"])
    known = set(letters or "") <= set(LETTERS) and len(set(letters or "")) == len(letters or "")
    last = int((match and match["last"]) or first or 0)
    if not good or not known or isinstance(rank, bool) or rank < 1:
        raise ConfigError(KEY, ranks, ALLOWED)
    if last < int(first or 0):
        raise ConfigError(KEY, ranks, f"{ALLOWED}; layers go upward, and {first} is more than {last}")
    layers = None if first is None else range(int(first), last + 1)
    return Rule(where, frozenset(letters) if letters else None, layers, rank)
