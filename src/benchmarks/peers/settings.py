"""The ways to run peft in one process of which the fastest is compared. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One way to run peft.

    Attributes:
        dtype: of the base; what is trained stays in float32.
        attention: which of transformers' implementations.
        autocast: whether the adapters' products run in the base's precision by torch's autocast, with peft's own casts
            of their inputs turned off.
        keep_memory: whether the C library keeps freed memory (src/models/hardware.py).
        spin: whether waiting threads give up early (GOMP_SPINCOUNT, src/train.py).
    """

    dtype: str
    attention: str
    autocast: bool = False
    keep_memory: bool = True
    spin: bool = True

    @property
    def text(self) -> str:
        """``bfloat16 base, eager attention, autocast, freed memory kept, threads spin briefly``."""
        also = {"autocast": self.autocast, "freed memory kept": self.keep_memory, "threads spin briefly": self.spin}
        chosen = [name for name, on in also.items() if on]
        return ", ".join([f"{self.dtype} base", f"{self.attention} attention", *chosen])


def settings_of(dtypes: Sequence[str]) -> list[Setting]:
    """Precisions and implementations to try."""
    plain = [Setting(dtype, attention) for dtype in dtypes for attention in ("sdpa", "eager")]
    return plain + [Setting(s.dtype, s.attention, autocast=True) for s in plain if s.dtype == "bfloat16"]
