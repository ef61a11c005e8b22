"""Studies and analyses to draw, small but with everything in them that a figure has to cope with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import product
from typing import Any

from src.comparison import Findings, find, no_examples
from src.records import AnalysisTable, RunRecord
from tests.record_factory import make_record, make_spec, one_table

EXAMPLES = {"splits": {"validation": {"examples": 1000}, "test": {"examples": 1500}}}
RUN_A, RUN_B = "qv-r2-s0", "qv-r4-s0"
NAMES: dict[str, tuple[str, int | None]] = {RUN_A: ("q,v", 2), RUN_B: ("q,v", 4)}


def findings_of(*records: RunRecord, margin: float = 0.01) -> Findings:
    return find(one_table(*records), no_examples, margin=margin)


def run(targets: str, rank: int, score: float, *, seed: int = 0, lr: float = 0.003, **changes: Any) -> RunRecord:
    record = make_record(make_spec(targets, rank, seed=seed, optim__lr=lr, **changes), score + 0.02, score)
    return dataclasses.replace(record, data=EXAMPLES, memory={"peak_bytes": 2**31 + rank})


def grid_of_runs(
    targets: Sequence[str] = ("q", "qkvo"), ranks: Sequence[int] = (1, 8), seeds: int = 3, rates: int = 2
) -> list[RunRecord]:
    """Scores rise with rank and size and fall with the second learning rate; seeds differ by 0.002."""
    records = [
        run(
            name,
            rank,
            0.8 + 0.01 * len(name) + 0.001 * rank + 0.002 * seed - 0.01 * rate,
            seed=seed,
            lr=(0.002, 0.004)[rate],
        )
        for name in targets
        for rank in ranks
        for rate in range(rates)
        for seed in range(seeds)
    ]
    return [*records, *(run("none", 1, 0.7 + 0.001 * seed, seed=seed) for seed in range(seeds))]


KIN: dict[str, dict[str, Any]] = {
    "DoRA": {"lora__dora": True},
    "rsLoRA": {"lora__rslora": True},
    "LoRA+": {"lora__b_lr_ratio": 16.0},
    "PiSSA": {"lora__init": "pissa"},
}


def methods_at_one_budget(seeds: int = 3, budget: int = 73_728) -> list[RunRecord]:
    """LoRA, its kin and other methods at two learning rates each; full fine-tuning, BitFit and the head beside them."""
    changes = {"LoRA": {}, **KIN}
    changes |= {name: {"method__name": name} for name in ("adapter_h", "adapter_l", "prefix", "random_subspace")}
    changes |= {name: {"method__name": name} for name in ("full", "bitfit")}
    records = []
    for place, (name, own) in enumerate(changes.items()):
        size = {} if name in ("full", "bitfit") else {"lora__budget": budget}
        for rate, seed in product(range(2), range(seeds)):
            score = 0.9 - 0.004 * place - 0.01 * rate + 0.001 * ((seed * (place + 3)) % 4)
            records.append(method_run(score, seed=seed, lr=(0.003, 0.01)[rate], lora__rank=None, **size, **own))
    return [*records, *(run("none", 1, 0.7 + 0.001 * seed, seed=seed) for seed in range(seeds))]


def subspaces(
    dimensions: Sequence[int] = (64, 256, 1024, 4096),
    seeds: int = 3,
    full: float | None = 0.9,
    ranks: Sequence[int] = (1, 4),
) -> list[RunRecord]:
    """Random subspaces whose scores rise from 0.6 by 0.1 for each d, LoRA by rank, and full fine-tuning."""
    records = []
    for seed in range(seeds):
        for place, d in enumerate(dimensions):
            score = 0.6 + 0.1 * place + 0.001 * seed
            records.append(method_run(score, seed=seed, method__name="random_subspace", method__size=d))
        records += [run("qv", rank, 0.85 + 0.002 * rank + 0.001 * seed, seed=seed) for rank in ranks]
        if full is not None:
            records.append(method_run(full + 0.001 * seed, seed=seed, lr=1e-4, method__name="full"))
    return records


def method_run(score: float, *, seed: int = 0, lr: float = 0.003, **changes: Any) -> RunRecord:
    """`run` for any method: what is set follows from `changes`."""
    record = make_record(make_spec("qv", 4, seed=seed, optim__lr=lr, **changes), score + 0.02, score)
    return dataclasses.replace(record, data=EXAMPLES, memory={"peak_bytes": 2**31})


def analysis(name: str) -> AnalysisTable:
    """A table of that name with the columns that src.analyze writes, two runs, letters q and v, three layers."""
    rows = list(_ROWS[name]())
    return AnalysisTable(name, {key: [row[key] for row in rows] for key in rows[0]}, "About.", {})


def _matrices() -> list[dict[str, Any]]:
    return [
        {"run": run_id, "letter": letter, "layer": layer} for run_id in NAMES for letter in "qv" for layer in range(3)
    ]


def _rank(row: dict[str, Any]) -> int:
    return NAMES[row["run"]][1] or 0


def _subspace() -> list[dict[str, Any]]:
    pairs = {"ranks": (RUN_A, RUN_B, 2, 4), "seeds": (RUN_B, RUN_B, 4, 4), "base": (RUN_B, None, 4, 6)}
    return [
        {"kind": kind, "run_a": a, "run_b": b, "letter_a": letter, "letter_b": letter, "layer": layer, "i": i, "j": j,
         "phi": 1 / (i + j + layer), "random": max(i, j) / 100, "start": None if kind == "base" else 0.5}
        for kind, (a, b, rows, columns) in pairs.items()
        for letter in "qv"
        for layer in range(3)
        for i in range(1, rows + 1)
        for j in range(1, columns + 1)
    ]  # fmt: skip


def _spectrum() -> list[dict[str, Any]]:
    return [
        row | {"index": index, "singular_value": 2.0 / index}
        for row in _matrices()
        for index in range(1, _rank(row) + 1)
    ]


_ROWS = {
    "subspace": _subspace,
    "spectrum": _spectrum,
    "size": lambda: [
        row | {"rank": _rank(row), "frobenius": 2.0, "spectral": 1.5, "stable_rank": 1.3, "effective_rank": 1.6}
        for row in _matrices()
    ],
    "amplification": lambda: [
        row | {"rank": _rank(row), "dw_norm": 3.0, "w_norm": 60.0, "along_dw": 0.3, "along_w": 20.0,
               "along_random": 0.02, "factor": 10.0 + row["layer"]}
        for row in _matrices()
    ],
    "intruders": lambda: [row | {"examined": 10, "threshold": 0.6, "intruders": 1} for row in _matrices()],
    "correlation": lambda: [row | {"cosine": 0.01 * row["layer"]} for row in _matrices()],
    "base_spectrum": lambda: [
        {"letter": letter, "layer": layer, "index": index, "singular_value": 5.0 / index}
        for letter in "qv"
        for layer in range(3)
        for index in range(1, 7)
    ],
    "truncation": lambda: [
        {"letter": letter, "k": k, "split": "test", "metric": "accuracy", "score": 0.5 + k / 20, "run": RUN_A}
        for letter in "qv"
        for k in (1, 2, 4, 6)
    ],
    "forgetting": lambda: [
        {"run": run_id, "measure": "cosine", "before": 1.0, "after": 0.9, "examples": 256} for run_id in NAMES
    ],
}  # fmt: skip
