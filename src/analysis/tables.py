"""The tables of an analysis: their columns, what a row is, and how rows become an AnalysisTable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.records.analysis import AnalysisTable, Scalar

Row = tuple[Scalar, ...]


@dataclass(frozen=True)
class Layout:
    """Columns of one table, and one sentence on what a row is."""

    columns: tuple[str, ...]
    about: str


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LAYOUTS: Mapping[str, Layout] = {
    "subspace": Layout(
        _columns("kind run_a run_b letter_a letter_b layer i j phi random start"),
        "Subspace similarity phi(i, j) of the first i directions of run_a and the first j of the other (Hu et al. 2021,"
        " section 7.2, figures 3, 4 and 8): of A between runs (ranks, seeds), of delta W against W0 (base) and against"
        " another letter of the same run (matrices); random is E[phi] of random subspaces, start is phi of the two A"
        " before training.",
    ),
    "spectrum": Layout(
        _columns("run letter layer index singular_value"),
        "Singular values of delta W = s B A, largest first.",
    ),
    "size": Layout(
        _columns("run letter layer rank frobenius spectral stable_rank effective_rank"),
        "Norms of delta W, its stable rank |dW|_F^2 / |dW|_2^2, and its effective rank exp(entropy of the normalised"
        " singular values) (Roy and Vetterli 2007).",
    ),
    "amplification": Layout(
        _columns("run letter layer rank dw_norm w_norm along_dw along_w along_random factor"),
        "||U^T W V||_F with U and V the top r singular directions of delta W, of W and of random matrices, and the"
        " amplification factor |dW|_F / ||U^T W V||_F (Hu et al. 2021, section 7.3, table 7).",
    ),
    "intruders": Layout(
        _columns("run letter layer examined threshold intruders"),
        "Of the top singular vectors of W0 + delta W, those whose cosine with each of W0's stays below the threshold"
        " (Shuttleworth et al. 2024, arXiv 2410.21228, algorithm 1).",
    ),
    "correlation": Layout(
        _columns("run letter layer cosine"),
        "Cosine of delta W with W0, both taken as vectors: <dW, W> / (|dW| |W|).",
    ),
    "base_spectrum": Layout(
        _columns("base letter layer index singular_value"),
        "Singular values of W0, largest first.",
    ),
    "truncation": Layout(
        _columns("run letter k split metric score"),
        "Score left when W0 of a letter is cut to its k largest singular triplets in all layers; the run's adapter and"
        " head are kept. The largest k is W0 as it is.",
    ),
    "forgetting": Layout(
        _columns("run measure before after examples"),
        "What the adapter did to the base's own behaviour: loss is the mean loss (nats a token) on whole validation"
        " texts, prompt and completion; cosine is the mean cosine of the adapted pooled features with the frozen ones,"
        " 1 before training by definition.",
    ),
}


def make_table(name: str, rows: Sequence[Row], notes: Mapping[str, Any]) -> AnalysisTable:
    """Rows in the order of the layout's columns to columns."""
    layout = LAYOUTS[name]
    columns = zip(*rows, strict=True) if rows else [()] * len(layout.columns)
    return AnalysisTable(name, dict(zip(layout.columns, columns, strict=True)), layout.about, notes)


def tabulated(count: int) -> list[int]:
    """Places in a spectrum of `count` values that are written: the first 32, then ever fewer, and the last; from 1."""
    steps: Iterable[int] = (round(32 * 1.06**n) for n in range(200))
    return sorted({*range(1, min(count, 32) + 1), *(place for place in steps if place < count), count})
