"""What N adapters over one base cost against N whole models: bytes, time to switch, time of a forward pass.

Sizes are those of real tensors and files. Before anything is timed, the answers are held against each other: an adapter
merged, unmerged and as one of many in a mixed batch has to say the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor
from transformers.utils.hub import cached_file

from src.errors import HarnessError
from src.models.bank import AdapterBank
from src.models.latency import TOLERANCE, time_in_turns
from src.models.loading import Base

BASE, UNMERGED, MERGED, MIXED = "base", "one adapter, unmerged", "one adapter, merged", "mixed batch"
IN_TURN = "its rows adapter by adapter"
Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Agreement:
    """Largest difference between answers that should be equal, as a share of the largest answer.

    Attributes:
        merged: each adapter merged, against unmerged.
        mixed: each row of the mixed batch, against its adapter alone.
    """

    merged: float
    mixed: float


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
    tensors = [*base.model.parameters(), *base.model.buffers()]
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values())


def checkpoint_bytes(base: Base) -> int | None:
    """Bytes of the model's weight files on disk; None where they are not found."""
    try:
        config = cached_file(base.source, "config.json", local_files_only=True)
    except OSError:
        return None
    folder = Path(str(config)).parent
    files = [*folder.glob("model*.safetensors")] or [*folder.glob("pytorch_model*.bin")]
    return sum(file.stat().st_size for file in files) or None


def sample_inputs(base: Base, batch: int, length: int) -> dict[str, Tensor]:
    """A random batch without padding: token ids, or for models of pictures noise (`length` is not used then)."""
    weight = next(base.model.parameters())
    draw, config = torch.Generator().manual_seed(0), cast(Any, base.model.config)
    if getattr(base.model, "main_input_name", None) == "pixel_values":
        size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        pixels = torch.randn(batch, config.num_channels, size, size, generator=draw)
        return {"pixel_values": pixels.to(weight)}
    ids = torch.randint(0, config.vocab_size, (batch, length), generator=draw).to(weight.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs | ({"decoder_input_ids": ids} if base.output is not None and config.is_encoder_decoder else {})


@torch.inference_mode()
def check_answers(bank: AdapterBank, inputs: Inputs) -> Agreement:
    """Hold the answers of all adapters against each other.

    Raises:
        HarnessError: some differ by more than rounding.
    """
    forward, names = _forward(bank.base, inputs), mixture(bank, _num_rows(inputs))
    bank.use(None)
    plain = forward()
    with bank.rows(names):
        mixed = forward()
    merged_apart, mixed_apart = [0.0], [0.0]
    for name in dict.fromkeys(names):
        rows = [row for row, own in enumerate(names) if own == name]
        bank.use(name)
        alone = forward()
        mixed_apart.append(_apart(mixed[rows], alone[rows]))
        bank.merge(name)
        merged_apart.append(_apart(forward(), alone))
        bank.unmerge()
    bank.use(None)
    found, limit = Agreement(max(merged_apart), max(mixed_apart)), TOLERANCE[plain.dtype]
    # Every one is asked: a NaN is no maximum.
    if not torch.equal(plain, forward()) or not all(apart <= limit for apart in (*merged_apart, *mixed_apart)):
        raise HarnessError(
            "Not timed, because answers differ that should be equal: merged and unmerged by "
            f"{found.merged:.1e}, mixed and alone by {found.mixed:.1e} of the largest, where {limit:.0e} is allowed."
        )
    return found


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
    """The base, one adapter for all rows, the same merged, a mixed batch, and its rows adapter by adapter."""
    names = mixture(bank, _num_rows(inputs))
    groups = {name: [row for row, own in enumerate(names) if own == name] for name in dict.fromkeys(names)}
    parts = {name: {key: tensor[rows] for key, tensor in inputs.items()} for name, rows in groups.items()}
    whole = _forward(bank.base, inputs)

    def one_by_one() -> Tensor:
        for name, part in parts.items():
            bank.use(name)
            hidden = _forward(bank.base, part)()
        return hidden

    @contextmanager
    def state(variant: str) -> Iterator[None]:
        bank.use(None if variant == BASE else bank.names[0])
        if variant == MERGED:
            bank.merge(bank.names[0])
        with bank.rows(names if variant == MIXED else (bank.active,)):
            yield
        bank.unmerge()

    work = dict.fromkeys((BASE, UNMERGED, MERGED, MIXED), whole) | {IN_TURN: one_by_one}
    bank.use(None)
    times = time_in_turns(work, state, bank.base, rounds)
    bank.use(None)
    return [
        Pass(name, seconds, tuple(100 * (own / base - 1) for own, base in zip(seconds, times[BASE], strict=True)))
        for name, seconds in times.items()
    ]


def mixture(bank: AdapterBank, num_rows: int) -> tuple[str, ...]:
    """An adapter for each row: all in turn, as far as there are rows."""
    return tuple(bank.names[row % len(bank.names)] for row in range(num_rows))


def _forward(base: Base, inputs: Inputs) -> Callable[[], Tensor]:
    """From inputs to hidden states; heads on top are the same in every variant."""
    backbone: Any = base.backbone
    return lambda: backbone(**inputs).last_hidden_state


def _num_rows(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def _once(bank: AdapterBank, work: Callable[[], None]) -> float:
    synchronise = torch.cuda.synchronize if bank.device.type == "cuda" else lambda: None
    synchronise()
    started = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - started
