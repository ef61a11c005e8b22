"""Rows of `truncation` and `forgetting`: is the base low-rank already, and what did it lose?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch.nn import functional as F

from src.adapters.start import weight_of, write_weight
from src.analysis.behaviour import Probe
from src.analysis.tables import Row
from src.analysis.thin import Svd

# Of min(d_out, d_in); all of it is W0 as it is.
SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


def truncation_rows(probe: Probe, lane: int, svds: Mapping[str, Svd]) -> list[Row]:
    """The score of one run with W0 of one letter at a time cut to rank k in all layers."""
    subject = probe.lanes[lane]
    metric, whole = probe.spec.task.metric, probe.score(lane)
    rows: list[Row] = []
    for letter in dict.fromkeys(p.letter for p in subject.projections):
        keys = [p.key for p in probe.base.projections if p.letter == letter and p.key in svds]
        full = min(len(svds[key].s) for key in keys)
        for k in sorted({max(1, round(share * full)) for share in SHARES} - {full}):
            with _truncated(probe, keys, svds, k):
                rows.append((subject.name, letter, k, "validation", metric, probe.score(lane)))
        rows.append((subject.name, letter, full, "validation", metric, whole))
    return rows


def forgetting_rows(probe: Probe) -> list[Row]:
    """One row for each run of the probe."""
    examples = len(probe.chosen)
    if probe.spec.task.kind == "causal_lm":
        before = probe.text_loss(0)
        return [(run.name, "loss", before, probe.text_loss(lane), examples) for lane, run in probe.lanes.items()]
    frozen = probe.features(0)
    return [
        (run.name, "cosine", 1.0, float(F.cosine_similarity(frozen, probe.features(lane), dim=-1).mean()), examples)
        for lane, run in probe.lanes.items()
    ]


@contextmanager
def _truncated(probe: Probe, keys: Sequence[str], svds: Mapping[str, Svd], k: int) -> Iterator[None]:
    """W0 of these projections is its best rank-k approximation (Eckart and Young) until the block ends."""
    places = [p for p in probe.base.projections if p.key in keys]
    kept = {p.key: weight_of(probe.base.backbone, p).clone() for p in places}
    try:
        for p in places:
            top = svds[p.key].top(k)
            write_weight(probe.base.backbone, p, torch.mm(top.u * top.s, top.v.T))
        yield
    finally:
        for p in places:
            write_weight(probe.base.backbone, p, kept[p.key])
