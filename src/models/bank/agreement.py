"""Whether a bank's adapters answer as they should: merged, unmerged and as one of many in a mixed batch the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.errors import HarnessError
from src.models.bank.bank import AdapterBank
from src.models.latency import TOLERANCE
from src.models.loading import Base

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Agreement:
    """Largest difference between answers that should be equal, as a share of the largest answer, over all adapters.

    Attributes:
        merged: merged, against unmerged.
        mixed: a row of a mixed batch, against its adapter alone; None where a batch cannot hold several adapters.
        allowed: what rounding explains in the base's precision.
    """

    merged: float
    mixed: float | None
    allowed: float


@torch.inference_mode()
def check_answers(bank: AdapterBank, inputs: Inputs) -> Agreement:
    """Hold the answers of all adapters against each other, mixed as many at a time as there are rows.

    Raises:
        HarnessError: some differ by more than rounding, or are no finite numbers.
    """
    forward, rows = forward_of(bank.base, inputs), num_rows(inputs)
    bank.use(None)
    plain = forward()
    merged: list[float] = []
    mixed: list[float] = []
    can_mix = len(bank.names) > 1 and rows > 1 and bank.why_unmixed(bank.names) is None
    for start in range(0, len(bank.names), rows):
        # From the first adapters on again where the last batch has rows to spare, so that it is mixed, too.
        names = mixture((*bank.names[start:], *bank.names[:start]), rows)
        together = _mixed(bank, names, forward) if can_mix else None
        for name in dict.fromkeys(names):
            bank.use(name)
            alone = forward()
            bank.merge(name)
            merged.append(_apart(forward(), alone))
            bank.unmerge()
            if together is not None:
                own = [row for row, other in enumerate(names) if other == name]
                mixed.append(_apart(together[own], alone[own]))
    bank.use(None)
    found = Agreement(_largest(merged), _largest(mixed) if can_mix else None, TOLERANCE[plain.dtype])
    _check(found, _apart(forward(), plain), str(plain.dtype).removeprefix("torch."))
    return found


def _check(found: Agreement, base: float, precision: str) -> None:
    """Raises:
    HarnessError: something is not equal; also where it is NaN, which no comparison holds for.
    """
    if not all(apart <= found.allowed for apart in (found.merged, found.mixed) if apart is not None):
        mixing = "" if found.mixed is None else f", mixed and alone by {found.mixed:.1e}"
        raise HarnessError(
            f"Not timed, because answers differ that should be equal: merged and unmerged by {found.merged:.1e}"
            f"{mixing} of the largest, where {found.allowed:.0e} is allowed in {precision}."
        )
    if base != 0.0:
        raise HarnessError(
            f"Not timed, because the base's answers before and after are {base:.1e} of the largest apart."
        )


def mixture(names: Sequence[str], rows: int) -> tuple[str, ...]:
    """An adapter for each row: all in turn, as far as there are rows."""
    return tuple(names[row % len(names)] for row in range(rows))


def forward_of(base: Base, inputs: Inputs) -> Callable[[], Tensor]:
    """From inputs to hidden states; heads on top are the same in every variant."""
    backbone: Any = base.backbone
    return lambda: backbone(**inputs).last_hidden_state


def num_rows(inputs: Inputs) -> int:
    """Of the batch."""
    return len(next(iter(inputs.values())))


def _mixed(bank: AdapterBank, names: Sequence[str], forward: Callable[[], Tensor]) -> Tensor:
    with bank.rows(names):
        return forward()


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def _largest(values: Sequence[float]) -> float:
    """NaN where one of them is, which Python's own max may pass over."""
    return float(torch.tensor(values, dtype=torch.float64).max())
