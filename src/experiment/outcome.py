"""From what is known of a lane to its record."""

from __future__ import annotations

import traceback
from typing import Any

from src.errors import DivergedError, hide_secrets
from src.experiment.resolve import Cell
from src.models.score import Result
from src.records import MEMORY, Budget, Failure, HistoryPoint, Metrics, Params, RunRecord, Status
from src.spec import to_dict
from src.training import Lane


def describe_failure(
    cell: Cell, error: BaseException, env: dict[str, Any], tracking: dict[str, str | None]
) -> RunRecord:
    """The record of a cell whose code raised: cause and traceback, and only what is known without training."""
    trace = "".join(traceback.format_exception(error))
    cause = Failure(type(error).__name__, hide_secrets(str(error)), hide_secrets(trace))
    return RunRecord(
        run_id=cell.run_id,
        status="failed",
        error=cause,
        spec=to_dict(cell.spec),
        params=_params(cell, None, None),
        metrics=Metrics(),
        best_epoch=None,
        time=dict.fromkeys(("total_s", "train_s", "tokens", "tokens_per_s", "pack_size")),
        memory=dict.fromkeys(MEMORY),
        env=env,
        data={},
        tracking=tracking,
    )


def describe_lane(
    cell: Cell,
    lane: Lane,
    test: Result | None,
    *,
    status: Status,
    pack_size: int,
    num_head: int,
    num_base: int,
    memory: dict[str, int | None],
    env: dict[str, Any],
    data: dict[str, Any],
    tracking: dict[str, str | None],
) -> RunRecord:
    """The record of a lane that ended: test scores where it was tested, its cause where it diverged.

    Args:
        memory: what was measured of it besides `Lane.costs`.
    """
    best = lane.best if status == "completed" else None
    return RunRecord(
        run_id=cell.run_id,
        status=status,
        error=None if lane.error is None else Failure(DivergedError.__name__, str(lane.error), ""),
        spec=to_dict(cell.spec),
        params=_params(cell, num_head, num_base),
        metrics=Metrics(
            validation=None if best is None else best.validation,
            test=None if test is None else test.metrics,
            history=tuple(HistoryPoint(e.step, e.epoch, e.train_loss, e.validation) for e in lane.history),
        ),
        best_epoch=None if best is None else best.epoch,
        time=_time(lane, pack_size),
        memory={**dict.fromkeys(MEMORY), **lane.costs, **memory},
        env=env,
        data=data,
        tracking=tracking,
    )


def summarise(record: RunRecord) -> dict[str, Any]:
    """What a tracker shows of a run at a glance."""
    scores = {
        f"{split}/{name}": value
        for split, metrics in (("best_validation", record.metrics.validation), ("test", record.metrics.test))
        for name, value in (metrics or {}).items()
    }
    counts = {"params/adapter": record.params.adapter, "params/head": record.params.head}
    return {"status": record.status, "best_epoch": record.best_epoch, **counts, **scores}


def _params(cell: Cell, head: int | None, base: int | None) -> Params:
    allocation, ranks = cell.setup.allocation, None
    if not allocation.uniform:
        keys = (projection.key for projection in cell.setup.projections)
        ranks = dict(zip(keys, allocation.ranks, strict=True))
    rank = None if allocation.rank == 0 or cell.spec.lora.ranks is not None else allocation.rank
    budget = None
    if allocation.requested is not None and allocation.residual is not None:
        budget = Budget(allocation.requested, allocation.parameters, allocation.residual)
    return Params(allocation.parameters, head, base, rank, budget, allocation.size, ranks)


def _time(lane: Lane, pack_size: int) -> dict[str, float | int | None]:
    """The lane's equal share of the seconds that it and its company took."""
    return {
        "total_s": lane.train_seconds + lane.eval_seconds,
        "train_s": lane.train_seconds,
        "tokens": lane.tokens,
        "tokens_per_s": lane.tokens / lane.train_seconds if lane.train_seconds else None,
        "pack_size": pack_size,
    }
