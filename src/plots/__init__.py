"""Figures of findings and analyses, as SVG and PNG; the only package that knows matplotlib."""

from src.plots.render import Rendered, render
from src.plots.selection import ANALYSIS_PLOTS, TABLE_PLOTS, Plot
from src.plots.svg import inline

__all__ = ["ANALYSIS_PLOTS", "TABLE_PLOTS", "Plot", "Rendered", "inline", "render"]
