"""Independent random streams of one run, all from its one seed."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Seed of a named stream, in [0, 2**63).

    Streams are independent of one another and of what else a run draws, so W_q's A starts alike whether or not
    W_v is adapted too, and the head starts alike in all cells that share a seed.
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
