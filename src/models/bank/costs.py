"""What N adapters over one base cost against N whole models: bytes, time to switch, time of a forward pass.

Sizes are those of real tensors and files. Before anything is timed, src/models/bank/agreement.py should have found that
all adapters answer as they should.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from transformers.utils.hub import cached_file

from src.models.bank.agreement import Inputs, forward_of, mixture, num_rows
from src.models.bank.bank import AdapterBank
from src.models.hardware import wait
from src.models.latency import time_in_turns
from src.models.loading import Base
from src.models.memory import held_bytes

BASE, UNMERGED, MERGED, MIXED = "base", "one adapter, unmerged", "one adapter, merged", "mixed batch"
IN_TURN = "its rows adapter by adapter"


@dataclass(frozen=True)
class Switching:
    """Median seconds from one adapter to the next.

    Attributes:
        use_s: in place.
        merge_s, unmerge_s: where the adapter is folded into the weights.
    """

    use_s: float
    merge_s: float
    unmerge_s: float


@dataclass(frozen=True)
class Pass:
    """Seconds of a forward pass over a batch, one value for each round.

    Attributes:
        slowdowns: in percent of the base's time in the same round.
    """

    variant: str
    seconds: tuple[float, ...]
    slowdowns: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return median(self.seconds)


def base_bytes(base: Base) -> int:
    """Bytes of the whole model in memory; tensors that share their storage count once."""
    return held_bytes([*base.model.parameters(), *base.model.buffers()])


def checkpoint_bytes(base: Base) -> int | None:
    """Bytes of the model's weight files on disk; None where they are not found."""
    try:
        config = cached_file(base.source, "config.json", local_files_only=True)
    except OSError:
        return None
    folder = Path(str(config)).parent
    files = [*folder.glob("model*.safetensors")] or [*folder.glob("pytorch_model*.bin")]
    return sum(file.stat().st_size for file in files) or None


@torch.inference_mode()
def time_switches(bank: AdapterBank, rounds: int) -> Switching:
    """From adapter to adapter, each once a round."""
    times: dict[str, list[float]] = {"use": [], "merge": [], "unmerge": []}
    for _ in range(rounds):
        for name in bank.names:
            times["use"].append(_once(bank, lambda name=name: bank.use(name)))  # type: ignore[misc]
            times["merge"].append(_once(bank, lambda name=name: bank.merge(name)))  # type: ignore[misc]
            times["unmerge"].append(_once(bank, bank.unmerge))
    bank.use(None)
    return Switching(*(median(times[verb]) for verb in ("use", "merge", "unmerge")))


@torch.inference_mode()
def time_passes(bank: AdapterBank, inputs: Inputs, rounds: int) -> list[Pass]:
    """The base, one adapter for all rows, the same merged, a mixed batch, and its rows adapter by adapter.

    There is no mixed batch of one adapter or one row, or where the bank cannot answer it (`AdapterBank.why_unmixed`).
    """
    names = mixture(bank.names, num_rows(inputs))
    groups = {name: [row for row, own in enumerate(names) if own == name] for name in dict.fromkeys(names)}
    parts = {name: {key: tensor[rows] for key, tensor in inputs.items()} for name, rows in groups.items()}
    whole = forward_of(bank.base, inputs)

    def one_by_one() -> Tensor:
        for name, part in parts.items():
            bank.use(name)
            hidden = forward_of(bank.base, part)()
        return hidden

    @contextmanager
    def state(variant: str) -> Iterator[None]:
        bank.use(None if variant == BASE else bank.names[0])
        if variant == MERGED:
            bank.merge(bank.names[0])
        with bank.rows(names if variant == MIXED else (bank.active,)):
            yield
        bank.unmerge()

    mixes = len(groups) > 1 and bank.why_unmixed(names) is None
    at_once = (BASE, UNMERGED, MERGED, MIXED) if mixes else (BASE, UNMERGED, MERGED)
    work = dict.fromkeys(at_once, whole) | {IN_TURN: one_by_one}
    bank.use(None)
    times = time_in_turns(work, state, bank.base, rounds)
    bank.use(None)
    return [
        Pass(name, seconds, tuple(100 * (own / base - 1) for own, base in zip(seconds, times[BASE], strict=True)))
        for name, seconds in times.items()
    ]


def _once(bank: AdapterBank, work: Callable[[], None]) -> float:
    wait(bank.device)
    started = time.perf_counter()
    work()
    wait(bank.device)
    return time.perf_counter() - started
