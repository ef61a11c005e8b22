"""Draw a report's figures and write them as SVG and PNG. A figure that fails is told of and stops nothing else."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from src.comparison.table import Table
from src.errors import HarnessError
from src.records.atomic import write_bytes_atomic
from src.records.paths import StudyPaths
from src.reporting.document import Picture
from src.reporting.material import Figures, Material

if TYPE_CHECKING:
    from src.plots import Rendered

logger = logging.getLogger(__name__)


def draw_figures(material: Material) -> Figures:
    """All figures that the material can fill, written to the report's figures folder; old ones there are removed.

    Raises:
        WriteError: the system refused to write.
    """
    # Matplotlib takes longer to load than most commands to run.
    from src.plots import ANALYSIS_PLOTS, TABLE_PLOTS, render  # noqa: PLC0415

    easel = _Easel(material.paths)
    drawn: dict[str, list[tuple[Picture, ...]]] = {part: [] for part in TABLE_PLOTS}
    names = table_names([findings.table for findings in material.findings])
    for name, findings in zip(names, material.findings, strict=True):
        prefix = "" if material.single else f"{name}-"
        for part, plots in TABLE_PLOTS.items():
            drawn[part].append(easel.draw(prefix, {p.__name__: partial(render, p, findings) for p in plots}))
    by_table = {part: tuple(pictures) for part, pictures in drawn.items()}
    analysis = [(material.analysis[name], plot) for name, plot in ANALYSIS_PLOTS if name in material.analysis]
    run_names = material.run_names
    inside = easel.draw("", {p.__name__: partial(render, p, t, run_names) for t, p in analysis})
    easel.clear_others()
    return Figures(**by_table, analysis=inside, failures=tuple(easel.failures))


def table_names(tables: list[Table]) -> list[str]:
    """Short names for files, each once."""
    names: list[str] = []
    for table in tables:
        name = re.sub(r"[^\w.]+", "-", f"{table.model}-{table.task}-{table.metric}").strip("-.").lower()[:60]
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names


@dataclass
class _Easel:
    """Draws, writes, and keeps account of both.

    Attributes:
        written: names of the files that belong to this report.
        failures: what could not be drawn, and why.
    """

    paths: StudyPaths
    written: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def draw(self, prefix: str, plots: Mapping[str, Callable[[], Rendered | None]]) -> tuple[Picture, ...]:
        pictures = []
        for name, plot in plots.items():
            try:
                rendered = plot()
            except HarnessError:
                raise
            except Exception as error:
                logger.warning("The figure %s cannot be drawn: %s", name, error, exc_info=True)
                self.failures.append(f"{name}: {type(error).__name__}: {error}")
                continue
            if rendered is not None:
                pictures.append(self._write(f"{prefix}{rendered.name}", rendered))
        return tuple(pictures)

    def clear_others(self) -> None:
        """Figures of an earlier report would show what no longer holds."""
        for path in [*self.paths.figures.glob("*.svg"), *self.paths.figures.glob("*.png")]:
            if path.name not in self.written:
                path.unlink(missing_ok=True)

    def _write(self, name: str, rendered: Rendered) -> Picture:
        from src.plots import inline  # noqa: PLC0415

        for suffix, content in ((".svg", rendered.svg), (".png", rendered.png)):
            write_bytes_atomic(self.paths.figures / f"{name}{suffix}", content)
            self.written.add(f"{name}{suffix}")
        return Picture(name, rendered.title, rendered.caption, inline(rendered.svg, name, rendered.title))
