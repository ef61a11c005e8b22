"""RunRecord: what is known about one run after it ended, written last and by atomic rename.

Values are plain JSON types; what is missing is None, never 0 and never NaN.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from src.errors import HarnessError
from src.records.atomic import write_json_atomic
from src.records.decode import DecodeError, decode
from src.spec import RunSpec

SCHEMA_VERSION = 1
Status = Literal["completed", "failed", "diverged", "interrupted", "eliminated"]
Scores = dict[str, float | None]
# What a run's training needs at once, each part counted from its tensors (src/training/costs.py).
COUNTED = (
    "frozen_weight_bytes",
    "trained_weight_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "activation_bytes",
)
MEMORY = (*COUNTED, "peak_bytes", "checkpoint_bytes", "training_checkpoint_bytes")


class RecordError(HarnessError):
    """A record file is corrupt or not ours.

    Args:
        path: the file.
        reason: a clause without a full stop.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path} is not a run record that can be read: {reason}. Run the cell again to replace it.")


@dataclass(frozen=True)
class Failure:
    """Why a run did not complete."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Budget:
    """Adapter parameters asked for, given, and left over (requested = achieved + residual)."""

    requested: int
    achieved: int
    residual: int


@dataclass(frozen=True)
class Params:
    """Parameter counts; the head is trained alike in all cells and counted apart.

    Attributes:
        adapter, head, base: numbers of parameters; None where the run ended before they were known. ``adapter`` counts
            all that is trained besides the head, whatever the method.
        rank: the rank trained, also where it followed from a budget; None without LoRA and with lora.ranks.
        budget: None where a rank or size was given.
        size: of a method that has one (bottleneck, prefix, subspace), also where it followed from a budget.
        ranks: by projection, where they are not all the same.
    """

    adapter: int | None = None
    head: int | None = None
    base: int | None = None
    rank: int | None = None
    budget: Budget | None = None
    size: int | None = None
    ranks: dict[str, int] | None = None


@dataclass(frozen=True)
class HistoryPoint:
    """One validation during training; `train_loss` is the mean since the validation before."""

    step: int
    epoch: float
    train_loss: float | None
    validation: Scores


@dataclass(frozen=True)
class Metrics:
    """Scores by metric name at the best epoch, and the way there."""

    validation: Scores | None = None
    test: Scores | None = None
    history: tuple[HistoryPoint, ...] = ()


@dataclass(frozen=True)
class Elimination:
    """Where successive halving ended a cell.

    Attributes:
        rung: number of the decision, from 1.
        step: optimiser steps taken before it.
        score: best validation so far, mean over the seeds that competed together; None where one of them diverged.
        place: by that score among `of` competitors, from 1; those with equal scores share the better place.
        kept: competitors that went on.
    """

    rung: int
    step: int
    score: float | None
    place: int
    of: int
    kept: int

    def __str__(self) -> str:
        return f"ended at step {self.step} by successive halving: place {self.place} of {self.of}, {self.kept} went on"


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        spec: the RunSpec, nested as in the config (`src.spec.to_dict`).
        best_epoch: epoch of the best validation, in passes over train; None where there was none.
        time: total_s and train_s (wall seconds, a run's equal share of its pack's), tokens, tokens_per_s, pack_size.
        memory: bytes by the names of MEMORY, None where not measured; older records have peak_bytes alone. The run's
            own, also in a pack: frozen weights that it computes with (of methods that train the model's own, what is
            left), trained weights, their gradients, optimiser state, and activations kept for backward by the first
            micro-batch. peak_bytes is the whole pack's, None where the platform does not tell. checkpoint_bytes are the
            files of what was trained, as saved at the end; training_checkpoint_bytes those that a run resumes from.
        env: versions, device, dtype, git {commit, dirty}, hardware.
        data: sizes and content hashes of the splits.
        tracking: backend and id (None where nothing was tracked).
        eliminated: where the status is ``eliminated``, why.
    """

    run_id: str
    status: Status
    error: Failure | None
    spec: dict[str, Any]
    params: Params
    metrics: Metrics
    best_epoch: float | None
    time: dict[str, float | int | None]
    memory: dict[str, int | None]
    env: dict[str, Any]
    data: dict[str, Any]
    tracking: dict[str, str | None]
    eliminated: Elimination | None = None
    schema_version: int = SCHEMA_VERSION

    def run_spec(self) -> RunSpec:
        """Raises:
        DecodeError: `spec` is not a RunSpec; cannot happen to a record that `read_record` returned.
        """
        return self._decoded

    @cached_property
    def _decoded(self) -> RunSpec:
        spec: RunSpec = decode(RunSpec, self.spec, "spec")
        return spec


def finite(value: float | None) -> float | None:
    """The number, or None where it is missing, NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def finite_scores(scores: Mapping[str, float | None]) -> Scores:
    """`finite` for each metric."""
    return {name: finite(value) for name, value in scores.items()}


def find_record(path: Path) -> RunRecord | None:
    """The record, None where there is none that can be read."""
    try:
        return read_record(path)
    except RecordError:
        return None


def write_record(record: RunRecord, path: Path) -> None:
    """Raises:
    WriteError: the system refused to write.
    ValueError: a number is not finite.
    """
    write_json_atomic(path, dataclasses.asdict(record))


def read_record(path: Path) -> RunRecord:
    """Raises:
    RecordError: missing, unreadable, corrupt, or written by another program or schema version.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise RecordError(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise RecordError(path, f"not strict JSON ({error})") from error
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordError(path, f"schema_version is {version!r}, this program reads {SCHEMA_VERSION}")
    try:
        record: RunRecord = decode(RunRecord, value)
        record.run_spec()
    except DecodeError as error:
        raise RecordError(path, str(error)) from error
    return record


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
