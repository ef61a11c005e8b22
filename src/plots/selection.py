"""Which figures there are, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from src.plots.costs import time_and_memory
from src.plots.forgetting import forgetting
from src.plots.layers import amplification, correlation, intruders
from src.plots.methods import intrinsic_dimension, methods_at_budget
from src.plots.rates import score_by_learning_rate
from src.plots.scores import matrices_at_budget, score_by_parameters, score_by_rank
from src.plots.spectra import base_spectrum, effective_rank, spectrum, truncation
from src.plots.style import Drawing
from src.plots.subspaces import subspace_base, subspace_matrices, subspace_ranks, subspace_seeds

Plot = Callable[..., Drawing | None]

# Part of the page, and what is drawn there for each table.
TABLE_PLOTS: Mapping[str, Sequence[Plot]] = {
    "scores": (score_by_parameters, score_by_rank, matrices_at_budget, score_by_learning_rate),
    "costs": (time_and_memory,),
    "methods": (methods_at_budget,),
    "intrinsic": (intrinsic_dimension,),
}
# Name of the analysis table, and what is drawn of it.
ANALYSIS_PLOTS: Sequence[tuple[str, Plot]] = (
    ("subspace", subspace_ranks),
    ("subspace", subspace_seeds),
    ("subspace", subspace_base),
    ("subspace", subspace_matrices),
    ("amplification", amplification),
    ("spectrum", spectrum),
    ("size", effective_rank),
    ("intruders", intruders),
    ("correlation", correlation),
    ("base_spectrum", base_spectrum),
    ("truncation", truncation),
    ("forgetting", forgetting),
)
