"""A standalone SVG made ready to stand inside a page that may be light or dark."""

from __future__ import annotations

import re
from html import escape

from src.plots.style import GRID, INK, MUTED, PALETTE

_BEFORE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>|\s*<metadata/>", re.DOTALL)
_OPENING = re.compile(r"<svg\b[^>]*>")
_VIEW = re.compile(r'viewBox="([^"]+)"')
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'(url\(#|href="#)')


def inline(svg: bytes, name: str, label: str) -> str:
    """The `svg` element alone, as wide as its place, with the page's colours and ids of its own.

    Args:
        name: of the figure, the prefix of its ids: several figures share one page.
        label: what a screen reader says.

    Colours become CSS variables with the drawn colour as default: --ink, --muted, --grid and --series-1 to 7.
    """
    text = _METADATA.sub("", _BEFORE.sub("", svg.decode()))
    view = _VIEW.search(text)
    if view is None:
        raise ValueError("an SVG without a viewBox")
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{escape(label)}" viewBox="{view[1]}">'
    )
    text = _OPENING.sub("", text, count=1)
    text = _ID.sub(lambda match: f'id="{name}-{match[1]}"', text)
    text = _REFERENCE.sub(lambda match: f"{match[1]}{name}-", text)
    for color, variable in _variables().items():
        text = re.sub(f"{color}(?![0-9a-f])", f"var(--{variable}, {color})", text)
    return opening + text


def _variables() -> dict[str, str]:
    series = {color: f"series-{number}" for number, color in enumerate(PALETTE, start=1)}
    return {INK: "ink", MUTED: "muted", GRID: "grid", **series}
