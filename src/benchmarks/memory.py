"""Memory of one training step: what the forward pass keeps for backward, the process's peak, the optimiser's state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.benchmarks.agreement import check_equal, copy_factors, draw_b
from src.benchmarks.found import Found, Goal, Table
from src.benchmarks.machine import describe_machine, require
from src.benchmarks.minimum import counted_minimum
from src.benchmarks.peak import Peak, peak_of
from src.benchmarks.peer_adapters import peft_side
from src.benchmarks.request import Request
from src.benchmarks.workbench import Bench, chosen_dtypes, in_dtype, prepare
from src.experiment.resources import Resources
from src.models.losses import num_targets
from src.models.memory import held_bytes
from src.spec import RunSpec, canonical_targets, source_name
from src.training.costs import saved_bytes

MIB = 2**20
OURS, AGAIN, FROZEN, MINIMUM = "ours", "layers run again", "frozen", "minimum"
PEFT, PEFT_TRAIN = "peft", "peft, train()"
NOTE = (
    "Kept for backward: storages that the graph alone holds, each counted once, without weights; the minimum is that "
    "of src/benchmarks/minimum.py. With model.train(), as in the HF Trainer, the base's own dropout is on as well. "
    "Peak: of a process of its own over three steps; beside it what those steps added."
)


@dataclasses.dataclass(frozen=True)
class Kept:
    """What each side keeps for backward in one case, in bytes.

    Attributes:
        parts: of the counted minimum; None where the architecture is not counted.
    """

    targets: str
    dropout: float
    sizes: dict[str, int]
    parts: dict[str, int] | None

    def ratio(self, other: str) -> float | None:
        """Ours over another's; None where that was not counted."""
        return None if other not in self.sizes else self.sizes[OURS] / self.sizes[other]

    @property
    def name(self) -> str:
        """``qv, dropout 0.1``."""
        return f"{self.targets}, dropout {self.dropout:g}"


def run(request: Request) -> Found:
    """Check, count and measure in each precision.

    Raises:
        ConfigError: what does not fit the model, or cannot be compared.
        HarnessError: peft is missing, or results differ that should be equal.
    """
    require("peft")
    resources = Resources(request.settings.device, Path(request.settings.cache_dir))
    kept, peaks, checks, goals = [], [], [], []
    raw: dict[str, Any] = {}
    for dtype in chosen_dtypes(request, resources.device):
        cases, rows = [], []
        for spec in cells(request, dtype):
            bench = prepare(spec, resources, request.options["batch"], request.options["length"], 1)
            if spec.lora.dropout == request.options["dropout"][0]:  # which plays no part in the check
                checks.append(check(bench))
            cases.append(keep(bench))
        kept.append(_kept_table(request, dtype, cases))
        goals += [goal for case in cases for goal in goals_of(case, dtype)]
        if "peak" in request.options["rows"]:
            rows = peak_rows(request, next(iter(cells(request, dtype))), resources)
        peaks += rows
        raw[dtype] = {"kept": [dataclasses.asdict(case) for case in cases], "peak": rows}
    tables = (*kept, _peak_table(request, peaks)) if peaks else tuple(kept)
    return Found(tables, tuple(goals), tuple(checks), raw, describe_machine(resources.device), (NOTE,))


def cells(request: Request, dtype: str) -> Iterable[RunSpec]:
    """Every set of matrices with every dropout."""
    for targets in request.options["targets"]:
        for dropout in request.options["dropout"]:
            lora = dataclasses.replace(
                request.spec.lora, targets=canonical_targets(targets, "targets"), dropout=dropout
            )
            yield in_dtype(dataclasses.replace(request.spec, lora=lora), dtype)


def check(bench: Bench) -> str:
    """Raises:
    HarnessError: ours and peft differ without dropout.
    """
    plain = bench.changed(dropout=0.0)
    ours, peer = bench.ours(plain), peft_side(bench.base, plain, bench.batches[0], bench.num_labels)
    draw_b(ours)
    copy_factors(ours, peer)
    return check_equal(f"peft on {plain.spec.lora.targets}", ours, peer, bench.dtype)


def keep(bench: Bench) -> Kept:
    """Count what each side keeps."""
    batch, spec = bench.batches[0], bench.setup.spec
    rows, length = batch.attention_mask.shape
    sides: dict[str, Callable[[], Tensor]] = {
        OURS: bench.ours().loss,
        AGAIN: bench.ours(bench.changed({"gradient_checkpointing": True})).loss,
        PEFT: peft_side(bench.base, bench.setup, batch, bench.num_labels).loss,
        PEFT_TRAIN: peft_side(bench.base, bench.setup, batch, bench.num_labels, base_dropout=True).loss,
        FROZEN: bench.frozen().loss,
    }
    sizes = {name: saved_bytes(loss) for name, loss in sides.items()}
    predicted = num_targets(spec.task.kind, batch) if bench.base.output is not None else 0
    parts = counted_minimum(bench.base, bench.setup, rows, length, num_labels=bench.num_labels, num_predicted=predicted)
    least = {} if parts is None else {MINIMUM: sum(parts.values())}
    return Kept(spec.lora.targets, spec.lora.dropout, sizes | least, parts)


def goals_of(case: Kept, dtype: str) -> list[Goal]:
    """Against peft and against the minimum."""
    uncounted = "this architecture's minimum is not counted (src/benchmarks/minimum.py)"
    name = f"{dtype}, {case.name}: kept for backward, ours"
    floor = f"the minimum: {case.sizes[MINIMUM] / case.sizes[PEFT]:.3g}" if MINIMUM in case.sizes else ""
    return [
        Goal(f"{name} / peft", case.ratio(PEFT), 0.55, "at most", beside=floor),
        Goal(f"{name} / counted minimum", case.ratio(MINIMUM), 1.15, "at most", why=uncounted),
    ]


def peak_rows(request: Request, spec: RunSpec, resources: Resources) -> list[dict[str, Any]]:
    """Peak and optimiser state of ours and of peft, as plain values."""
    rows, length = request.options["batch"], request.options["length"]
    spec = dataclasses.replace(spec, trainer=dataclasses.replace(spec.trainer, batch_size=rows))
    bench = prepare(spec, resources, rows, length, 1)
    states = optimizer_bytes(bench)
    found = []
    for side in (OURS, PEFT):
        peak = peak_of(side, spec, str(resources.device), request.settings.cache_dir, length)
        found.append({"dtype": spec.trainer.dtype, "side": side, **_plain(peak), "optimizer": states[side]})
    return found


def optimizer_bytes(bench: Bench) -> dict[str, int]:
    """AdamW's state after one step."""
    ours, peer = bench.ours(), peft_side(bench.base, bench.setup, bench.batches[0], bench.num_labels)
    ours.step()
    peer.step()
    return {OURS: _state_bytes(ours.lanes[0].optimizer), PEFT: _state_bytes(peer.optimizer)}


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    values = [value for state in optimizer.state.values() for value in state.values()]
    return held_bytes(value for value in values if isinstance(value, Tensor))


def _plain(peak: Peak) -> dict[str, int | None]:
    return {**dataclasses.asdict(peak), "added": peak.added}


def _kept_table(request: Request, dtype: str, cases: list[Kept]) -> Table:
    names = (OURS, AGAIN, PEFT, PEFT_TRAIN, FROZEN, MINIMUM)
    rows = [
        (
            case.name,
            *(f"{case.sizes[name] / MIB:.2f}" if name in case.sizes else "" for name in names),
            *(_ratio(case.ratio(name)) for name in (PEFT, PEFT_TRAIN, MINIMUM)),
        )
        for case in cases
    ]
    title = f"{_shape(request)}, {dtype}: MiB kept for backward"
    return Table(title, ("", *names, *(f"/ {name}" for name in (PEFT, PEFT_TRAIN, MINIMUM))), tuple(rows))


def _peak_table(request: Request, peaks: list[dict[str, Any]]) -> Table:
    rows = [
        (f"{row['dtype']}, {row['side']}", *(_mib(row[name]) for name in ("most", "added", "optimizer")))
        for row in peaks
    ]
    lora = f"{request.options['targets'][0]}, dropout {request.options['dropout'][0]:g}"
    return Table(f"{_shape(request)}, {lora}: MiB", ("", "peak", "added by steps", "optimiser state"), tuple(rows))


def _shape(request: Request) -> str:
    name, options = source_name(request.spec.model.path), request.options
    return f"{name}, {options['batch']} x {options['length']} tokens"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / MIB:.2f}"
