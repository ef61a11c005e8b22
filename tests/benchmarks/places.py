"""What a benchmark starts from, on tiny random models."""

from __future__ import annotations

from typing import Any

import torch

from src.benchmarks.texts import full_batches, natural_batches
from src.benchmarks.workbench import Bench
from src.spec import TaskKind
from tests.tiny import tiny_base, tiny_cell, tiny_data

ROWS, LENGTH = 3, 10


def tiny_bench(
    model_type: str = "bert",
    kind: TaskKind = "classification",
    dtype: torch.dtype = torch.float64,
    lanes: int = 2,
    **changes: Any,
) -> Bench:
    """A cell on 3 x 10 tokens; `changes` as in `tiny_cell`."""
    base, data = tiny_base(model_type, kind, dtype), tiny_data(kind)
    changes = {"cache_frozen": False, **changes}
    setup = tiny_cell(data, base, **changes)
    drawn, own = natural_batches(data, ROWS, 2)
    return Bench(base, setup, full_batches(data, ROWS, LENGTH, lanes), data.num_labels, data.pad_id, drawn, own)
