"""Rows of the tables that follow from adapters and their base's weights, matrix by matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from src.adapters.lowrank import LowRank
from src.adapters.projections import Projection
from src.adapters.start import weight_of
from src.analysis.amplification import Amplification, amplifications
from src.analysis.intruders import EXAMINED, THRESHOLD, count_intruders
from src.analysis.subjects import Subject, adapted_projections
from src.analysis.tables import Row, tabulated
from src.analysis.thin import Svd, delta_svds, nonzero, size_of

Rows = dict[str, list[Row]]
NAMES = ("spectrum", "size", "amplification", "intruders", "correlation")


def weight_rows(subjects: Sequence[Subject], backbone: nn.Module, svds: Mapping[str, Svd]) -> Rows:
    """spectrum, size, amplification, intruders and correlation of adapters of one base, adapter by adapter.

    Args:
        svds: of W0, for every projection that a subject adapts.
    """
    found: list[Rows] = [{name: [] for name in NAMES} for _ in subjects]
    for p in adapted_projections(subjects):
        weight, base = weight_of(backbone, p), svds[p.key]
        own = [index for index, subject in enumerate(subjects) if p.key in subject.adapters]
        adapters = [subjects[index].adapters[p.key] for index in own]
        deltas = delta_svds(adapters)
        amplified = amplifications([nonzero(delta) for delta in deltas], weight, base.s)
        for index, adapter, delta, found_here in zip(own, adapters, deltas, amplified, strict=True):
            place = (subjects[index].name, p.letter, p.layer)
            for name, rows in _rows(place, delta.s, found_here, adapter).items():
                found[index][name] += rows
            examined, intruders = count_intruders(adapter, weight, base, EXAMINED, THRESHOLD)
            found[index]["intruders"].append((*place, examined, THRESHOLD, intruders))
    return {name: [row for rows in found for row in rows[name]] for name in NAMES}


def _rows(place: Row, s: Tensor, found: Amplification, adapter: LowRank) -> Rows:
    """All but intruders, of one matrix of one adapter with singular values s."""
    size, rank = size_of(s), len(adapter.a)
    along = found.along_dw, found.along_w, found.along_random
    return {
        "spectrum": [(*place, at, float(s[at - 1])) for at in tabulated(len(s))],
        "size": [(*place, rank, size.frobenius, size.spectral, size.stable_rank, size.effective_rank)],
        "amplification": [(*place, rank, found.dw_norm, found.w_norm, *along, found.factor)],
        "correlation": [(*place, found.cosine)],
    }


def base_rows(base: str, projections: Sequence[Projection], svds: Mapping[str, Svd]) -> list[Row]:
    """base_spectrum of one base."""
    return [
        (base, p.letter, p.layer, at, float(svds[p.key].s[at - 1]))
        for p in projections
        for at in tabulated(len(svds[p.key].s))
    ]
