"""Drawings to files: the same drawing gives the same bytes, so that a report that says the same is the same."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from src.plots.style import LOOK, Drawing

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
# Dates and versions would change the bytes of a figure that shows the same.
SVG_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Rendered:
    """A drawing as files.

    Attributes:
        svg: stands alone; `src.plots.svg.inline` fits it into a page.
        png: on white.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    png: bytes


def render(plot: Callable[..., Drawing | None], *arguments: Any) -> Rendered | None:
    """Draw and render; None where the plot has nothing to show."""
    with rc_context(LOOK), warnings.catch_warnings():  # type: ignore[arg-type]
        # Names in scripts that the font lacks: browsers have other fonts, only the PNG shows boxes.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        drawing = plot(*arguments)
        if drawing is None:
            return None
        FigureCanvasAgg(drawing.figure)
        svg = _save(drawing.figure, "svg", transparent=True, metadata=SVG_METADATA)
        png = _save(drawing.figure, "png", facecolor="white", metadata={"Software": None})
    return Rendered(drawing.name, drawing.title, drawing.caption, svg, png)


def _save(figure: Figure, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, **options)
    # What no XML can hold; names come from data and from records.
    return _CONTROL.sub(b" ", out.getvalue()) if kind == "svg" else out.getvalue()
