"""How numbers and foreign text are shown to a person."""

from __future__ import annotations

from typing import Literal

Kind = Literal["text", "count", "number", "score", "seconds"]
Value = str | int | float | None
MISSING = "-"


def show(value: Value, kind: Kind) -> str:
    """`value` as a reader expects it: 442,368 / 0.003 / 0.9120 / 2m 05s; MISSING where there is none."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return one_line(value)
    match kind:
        case "count":
            return f"{value:,d}" if isinstance(value, int) else f"{value:,.0f}"
        case "score":
            return f"{value:.4f}" if abs(value) < 100 else f"{value:.2f}"
        case "seconds":
            return duration(value)
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """12.3s, 2m 05s or 1h 02m."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


def byte_size(count: float) -> str:
    """512 B, 88.2 kB or 1.2 TB, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def one_line(text: str, longest: int | None = None) -> str:
    """Text of foreign origin on one line, without control characters that could drive a terminal."""
    line = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(line.split())
    return line if longest is None or len(line) <= longest else f"{line[: longest - 3]}..."
