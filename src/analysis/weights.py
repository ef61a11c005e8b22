"""Rows of the tables that follow from an adapter and its base's weights, matrix by matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from src.adapters.projections import Projection
from src.adapters.start import weight_of
from src.analysis.amplification import amplification
from src.analysis.intruders import EXAMINED, THRESHOLD, count_intruders
from src.analysis.subjects import Subject
from src.analysis.tables import Row, tabulated
from src.analysis.thin import Svd, cosine_with, delta_svd, nonzero, size_of

Rows = dict[str, list[Row]]


def weight_rows(subject: Subject, backbone: nn.Module, svds: Mapping[str, Svd]) -> Rows:
    """spectrum, size, amplification, intruders and correlation of one adapter.

    Args:
        svds: of W0, for every projection that the subject adapts.
    """
    rows: Rows = {name: [] for name in ("spectrum", "size", "amplification", "intruders", "correlation")}
    for p in subject.projections:
        adapter, base, place = subject.adapters[p.key], svds[p.key], (subject.name, p.letter, p.layer)
        weight, delta = weight_of(backbone, p).double(), delta_svd(adapter)
        size, found = size_of(delta.s), amplification(nonzero(delta), weight, base.s)
        rank = len(adapter.a)
        rows["spectrum"] += [(*place, at, float(delta.s[at - 1])) for at in tabulated(len(delta.s))]
        rows["size"].append((*place, rank, size.frobenius, size.spectral, size.stable_rank, size.effective_rank))
        rows["amplification"].append((
            *place, rank, found.dw_norm, found.w_norm, found.along_dw, found.along_w, found.along_random, found.factor
        ))  # fmt: skip
        examined, intruders = count_intruders(adapter, weight, base, EXAMINED, THRESHOLD)
        rows["intruders"].append((*place, examined, THRESHOLD, intruders))
        rows["correlation"].append((*place, cosine_with(adapter, weight)))
    return rows


def base_rows(base: str, projections: Sequence[Projection], svds: Mapping[str, Svd]) -> list[Row]:
    """base_spectrum of one base."""
    return [
        (base, p.letter, p.layer, at, float(svds[p.key].s[at - 1]))
        for p in projections
        for at in tabulated(len(svds[p.key].s))
    ]
