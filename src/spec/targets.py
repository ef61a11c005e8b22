"""The letters that users write for projections, and their one canonical order.

q, k, v, o are W_q, W_k, W_v, W_o of attention; u, g, d are the MLP's up, gate and down matrices. Encoder-decoder models
have them in three stacks, of which cross is the decoder's attention to the encoder.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from src.errors import ConfigError

Letter = Literal["q", "k", "v", "o", "u", "g", "d"]
LETTERS: tuple[Letter, ...] = get_args(Letter)
ATTENTION: frozenset[Letter] = frozenset({"q", "k", "v", "o"})
STACKS = ("encoder", "decoder", "cross")
WORDS = ("none", "attn", "mlp", "all")
ALLOWED = "letters of qkvougd in any order, each once (qv, qkvo), or one of none, attn, mlp, all"


def canonical_targets(text: str, key: str = "lora.targets") -> str:
    """Bring letters into the order qkvougd; keep the words, of which ``attn`` means ``qkvo``.

    ``mlp`` and ``all`` depend on the architecture and stay words until `expand_targets`.

    Raises:
        ConfigError: an unknown or repeated letter, or nothing at all.
    """
    if text == "attn":
        return "qkvo"
    if text in WORDS:
        return text
    if not text or set(text) - set(LETTERS) or len(set(text)) != len(text):
        raise ConfigError(key, text, ALLOWED)
    return "".join(letter for letter in LETTERS if letter in text)


def expand_targets(targets: str, present: Collection[Letter], key: str = "lora.targets") -> str:
    """Replace ``mlp`` and ``all`` by the letters that an architecture has.

    Args:
        targets: a result of `canonical_targets`.
        present: letters that the architecture's projection table defines.

    Raises:
        ConfigError: a letter that the architecture lacks; the message lists those it has.
    """
    match targets:
        case "none":
            return targets
        case "all":
            wanted: set[Letter] = set(present)
        case "mlp":
            wanted = set(present) - ATTENTION
        case _:
            wanted = {letter for letter in LETTERS if letter in targets}
    if not wanted or not wanted <= set(present):
        here = "".join(letter for letter in LETTERS if letter in present)
        raise ConfigError(key, targets, f"letters that this architecture has: {here}")
    return "".join(letter for letter in LETTERS if letter in wanted)
