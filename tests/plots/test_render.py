from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from src.plots import ANALYSIS_PLOTS, TABLE_PLOTS, Rendered, inline, render
from src.plots.style import LOOK, PALETTE, Drawing, looks
from tests.plots.studies import NAMES, analysis, findings_of, grid_of_runs, methods_at_one_budget, subspaces
from tests.record_factory import make_record, make_spec


@pytest.fixture(scope="module")
def drawings() -> Iterator[list[Drawing]]:
    everything = findings_of(*grid_of_runs(("q", "k", "v", "o", "qk", "qv", "qkvo"), (1, 8, 64), seeds=2))
    budget = findings_of(*grid_of_runs(("q",), (4,)), *grid_of_runs(("qv",), (2,)), *grid_of_runs(("qkvo",), (1,)))
    mixed = findings_of(*methods_at_one_budget(), *subspaces())
    plots = [plot for part in TABLE_PLOTS.values() for plot in part]
    made = [partial(plot, findings) for findings in (everything, budget, mixed) for plot in plots]
    made += [partial(plot, analysis(name), NAMES) for name, plot in ANALYSIS_PLOTS]
    with rc_context(LOOK):  # type: ignore[arg-type]
        yield [drawing for plot in made if (drawing := plot()) is not None]


def shown(*, title: str = "minilm") -> Rendered:
    records = [make_record(make_spec("qv", rank, model__path=title), 0.9 + rank / 100) for rank in (1, 2)]
    rendered = render(TABLE_PLOTS["scores"][1], findings_of(*records))
    assert rendered is not None
    return rendered


def test_nothing_is_cut_off_and_title_legend_axes_and_note_do_not_overlap(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        figure = drawing.figure
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        whole = figure.bbox.padded(1)
        parts = [text.get_window_extent(renderer) for text in figure.texts]
        parts += [legend.get_window_extent(renderer) for legend in figure.legends]
        axes = [box for ax in figure.axes if (box := ax.get_tightbbox(renderer)) is not None and ax.axison]
        for box in (*parts, *axes):
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1, drawing.title
            assert whole.y0 <= box.y0 and box.y1 <= whole.y1, drawing.title
        parts.append(Bbox.union(axes))
        for place, box in enumerate(parts):
            assert not any(box.overlaps(other) for other in parts[place + 1 :]), drawing.title


def test_tick_labels_do_not_overlap(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        renderer = FigureCanvasAgg(drawing.figure).get_renderer()
        drawing.figure.draw(renderer)
        for axis in (axis for ax in drawing.figure.axes for axis in (ax.xaxis, ax.yaxis)):
            low, high = sorted(axis.get_view_interval())
            labels = [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_text()]
            boxes = [label.get_window_extent(renderer) for label in labels if label.get_visible()]
            overlaps = [a for a, b in pairwise(boxes) if a.overlaps(b)]
            assert not overlaps, (drawing.title, [label.get_text() for label in labels])


def test_the_same_figure_is_the_same_bytes() -> None:
    first, second = shown(), shown()
    assert first.svg == second.svg and first.png == second.png
    assert first.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["<b>&amp;", "a$b$c", "模型", "x_{1}^"])
def test_foreign_names_are_text(name: str) -> None:
    rendered = shown(title=name)
    page = inline(rendered.svg, "figure", name)
    words = " ".join(ElementTree.fromstring(page).itertext())
    assert name in words


def test_an_inlined_figure_has_ids_of_its_own_and_every_reference_resolves() -> None:
    rendered = shown()
    page = inline(rendered.svg, "one", "a title") + inline(rendered.svg, "two", "a title")
    ids = re.findall(r'\bid="([^"]+)"', page)
    references = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page))
    assert len(ids) == len(set(ids))
    assert references and {a or b for a, b in references} <= set(ids)
    assert page.startswith("<svg") and 'role="img"' in page and "<metadata" not in page


def test_an_inlined_figure_takes_the_colours_of_its_page() -> None:
    page = inline(shown().svg, "one", "a title")
    assert "var(--ink, #1f2328)" in page and "var(--series-1, #0072b2)" in page
    assert not re.findall(r"(?<!, )#(?:1f2328|59636e|0072b2|000000)\b", page)


def test_what_is_no_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="viewBox"):
        inline(b"<svg></svg>", "one", "a title")


def test_every_series_looks_different() -> None:
    keys = range(len(PALETTE) * 3)
    found = {(look.color, look.marker, str(look.line)) for look in looks(keys).values()}
    assert len(found) == len(keys)
