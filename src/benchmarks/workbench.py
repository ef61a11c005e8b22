"""Model, cell and tokens that all sides of a comparison share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from src.benchmarks.peer_adapters import check_comparable
from src.benchmarks.request import Request
from src.benchmarks.sides import Frozen, Natural, Ours, StockFrozen
from src.benchmarks.texts import full_batches, natural_batches
from src.data import Batch
from src.experiment.resources import Resources
from src.models.hardware import has_native_bfloat16
from src.models.loading import Base, check_length, max_positions
from src.models.setup import LaneSetup, set_up
from src.spec import RunSpec

# What is measured by rows of its own.
PLAIN: dict[str, Any] = {"cache_frozen": False, "gradient_checkpointing": False}
NATURAL = 4  # batches of texts as long as they are; steps on them are counted together
LONGEST = 512  # tokens of such a text, where the model has no limit


@dataclass(frozen=True)
class Bench:
    """What all sides share in one precision.

    Attributes:
        setup: LoRA as asked for.
        batches: as many as the most lanes.
        drawn, own: batches of texts as long as they are, drawn at random and as the trainer makes them.
    """

    base: Base
    setup: LaneSetup
    batches: Sequence[Batch]
    num_labels: int
    pad_id: int
    drawn: Sequence[Batch]
    own: Sequence[Batch]

    @property
    def dtype(self) -> torch.dtype:
        """The base's."""
        return next(self.base.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The base's."""
        return next(self.base.model.parameters()).device

    def changed(self, trainer: Mapping[str, Any] | None = None, **lora: Any) -> LaneSetup:
        """The cell with other values in its `trainer` and `lora`."""
        spec = self.setup.spec
        groups: dict[str, Any] = {
            "trainer": dataclasses.replace(spec.trainer, **(trainer or {})),
            "lora": dataclasses.replace(spec.lora, **lora),
        }
        return set_up(dataclasses.replace(spec, **groups), self.base)

    def ours(self, setup: LaneSetup | None = None, lanes: int = 1) -> Ours:
        """A pack on the first batches."""
        return Ours(self.base, setup or self.setup, self.batches[:lanes], self.num_labels, self.pad_id)

    def natural(self, batches: Sequence[Batch], *, end_to_end: bool) -> Natural:
        """On batches of texts as long as they are."""
        ours = Ours(self.base, self.setup, batches[:1], self.num_labels, self.pad_id)
        return Natural(ours, batches, end_to_end=end_to_end)

    def frozen(self) -> Frozen:
        """On the first batch."""
        return Frozen(self.base, self.setup, self.batches[:1], self.num_labels, self.pad_id)

    def stock(self) -> StockFrozen:
        """On the first batch."""
        return StockFrozen(self.base, self.setup.spec, self.batches[0], self.num_labels)


def chosen_dtypes(request: Request, device: torch.device) -> tuple[str, ...]:
    """Those asked for; else float32, and bfloat16 where the hardware has it."""
    native = ("float32", "bfloat16") if has_native_bfloat16(device) else ("float32",)
    return request.options["dtype"] or native


def prepare(spec: RunSpec, resources: Resources, rows: int, length: int, lanes: int) -> Bench:
    """Load model and tokens.

    Args:
        spec: with the dtype to compute in.
        lanes: most lanes, for each of which there is a batch of rows x length tokens.

    Raises:
        ConfigError: what does not fit the model, or cannot be compared.
    """
    # Which attention is used follows from the longest input.
    task = dataclasses.replace(spec.task, max_length=length)
    trainer = dataclasses.replace(spec.trainer, batch_size=rows, **PLAIN)
    spec = dataclasses.replace(spec, task=task, trainer=trainer)
    base = resources.base(spec)
    check_length(base, length)
    setup = set_up(spec, base)
    check_comparable(setup)
    data = resources.data(spec)
    task = dataclasses.replace(spec.task, max_length=max_positions(base) or LONGEST)
    drawn, own = natural_batches(resources.data(dataclasses.replace(spec, task=task)), rows, NATURAL)
    return Bench(base, setup, full_batches(data, rows, length, lanes), data.num_labels, data.pad_id, drawn, own)


def in_dtype(spec: RunSpec, dtype: Any) -> RunSpec:
    """The cell over a base of this precision."""
    return dataclasses.replace(spec, trainer=dataclasses.replace(spec.trainer, dtype=dtype))
