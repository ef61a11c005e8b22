"""Time of one forward pass with nothing, with LoRA and with adapter layers (Hu et al. 2021, table 1).

All variants are timed in one process, over the same weights and inputs, in turns: what else happens on the machine then
strikes all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor

from src.errors import HarnessError
from src.models.adapted import AdaptedModel
from src.models.hardware import wait
from src.models.loading import Base
from src.models.methods import adapter_layers
from src.models.methods.adapter_layers import AdapterLayers, Design
from src.models.sample_inputs import sample_inputs
from src.models.setup import LaneSetup

BASE = "base"
LORA, MERGED = "LoRA", "LoRA merged"
LAYERS: dict[str, Design] = {"Houlsby layers": "adapter_h", "Lin layers": "adapter_l"}
# A single short pass says more of the clock than of the model.
LEAST_S, MOST_CALLS = 0.05, 50
# Largest difference of merged and unmerged outputs, as a share of the largest output, that is put down to rounding. It
# grows with depth: with adapters on q, v and o of MiniLM's 6 and SmolLM2's 30 layers it came to 7e-7 and 1e-5 in
# float32, to 8e-3 and 5e-2 in bfloat16, where merging rounds W itself to 8 bits.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 1e-1}
Forward = Callable[[], Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """One variant at one shape of input.

    Attributes:
        shape: of the input; rows and tokens, or of pictures rows, channels, height and width.
        parameters: those that the variant adds and that stay apart from the base's when it runs.
        seconds: of one forward pass, one value for each round.
        slowdowns: in percent of the base's time in the same round.
    """

    variant: str
    shape: tuple[int, ...]
    parameters: int
    seconds: tuple[float, ...]
    slowdowns: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return median(self.seconds)

    @property
    def slowdown(self) -> float:
        """Median over rounds, in percent."""
        return median(self.slowdowns)


class Variants:
    """A base model that can be put into each state in turn.

    Args:
        base: used by nobody else meanwhile.
        setup: the LoRA cell; its B is filled with random numbers, so that merging has something to do.
        bottleneck: width of the adapter layers.
    """

    def __init__(self, base: Base, setup: LaneSetup, bottleneck: int) -> None:
        self.base, self.setup = base, setup
        dtype = next(base.model.parameters()).dtype
        self.layers = {name: AdapterLayers(base, design, bottleneck, dtype=dtype) for name, design in LAYERS.items()}
        self._sizes = {n: adapter_layers.num_parameters(base, design, bottleneck) for n, design in LAYERS.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Of all variants, the base first."""
        return (BASE, LORA, MERGED, *self.layers)

    def parameters(self, name: str) -> int:
        """What the variant adds to the base; what is merged is part of it."""
        if name in self.layers:
            return self._sizes[name]
        return self.setup.allocation.parameters if name == LORA else 0

    @contextmanager
    def active(self, name: str) -> Iterator[None]:
        """Within the block the base's backbone runs as the variant."""
        if name == BASE:
            yield
            return
        if name in self.layers:
            self.layers[name].attach()
            try:
                yield
            finally:
                self.layers[name].detach()
            return
        model = AdaptedModel(self.base, [self.setup], num_labels=0, pad_id=0)
        try:
            _fill(model)
            if name == MERGED:
                model.merge()
            yield
        finally:
            model.detach()


def measure(variants: Variants, batch: int, length: int, rounds: int) -> list[Timing]:
    """Check that the variants compute what they should, then time them in turns.

    Args:
        batch, length: rows and tokens of the input, random token ids without padding; pictures of noise have the
            model's own size.
        rounds: each times every variant once, in an order that rotates.

    Raises:
        HarnessError: outputs differ that should be equal; nothing is timed then.
    """
    inputs = sample_inputs(variants.base, batch, length)
    backbone: Any = variants.base.backbone

    def forward() -> Tensor:
        hidden: Tensor = backbone(**inputs).last_hidden_state
        return hidden

    with torch.inference_mode():
        _check(variants, forward)
        times = time_in_turns(dict.fromkeys(variants.names, forward), variants.active, variants.base, rounds)
    return [
        Timing(
            variant=name,
            shape=tuple(next(iter(inputs.values())).shape),
            parameters=variants.parameters(name),
            seconds=seconds,
            slowdowns=tuple(100 * (own / base - 1) for own, base in zip(seconds, times[BASE], strict=True)),
        )
        for name, seconds in times.items()
    ]


def time_in_turns(
    work: Mapping[str, Forward], active: Callable[[str], AbstractContextManager[object]], base: Base, rounds: int
) -> dict[str, tuple[float, ...]]:
    """Seconds of one pass of each kind of work, one value for each round.

    Args:
        work: by name; the first decides how many passes one timing lasts.
        active: puts the model into the state for a kind of work.
        rounds: each times every kind once, in an order that rotates.
    """
    names = tuple(work)
    calls = _calls(work[names[0]], base)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in in_rotation(names, rounds):
        with active(name):
            times[name].append(_time(work[name], base, calls))
    return {name: tuple(seconds) for name, seconds in times.items()}


def in_rotation(items: Sequence[T], rounds: int) -> Iterator[T]:
    """All items once in each round, in an order that rotates, so that none always follows the same other."""
    for number in range(rounds):
        turn = number % len(items)
        yield from (*items[turn:], *items[:turn])


def _fill(model: AdaptedModel) -> None:
    """Random B, and all factors in the base's precision, as one would serve them."""
    generator = torch.Generator().manual_seed(0)
    dtype = next(model.base.model.parameters()).dtype
    for name, parameter in model.adapter_parameters(0).items():
        if name.endswith(".B"):
            parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
        parameter.data = parameter.data.to(dtype)


def _check(variants: Variants, forward: Forward) -> None:
    outputs: dict[str, Tensor] = {}
    for name in variants.names:
        with variants.active(name):
            outputs[name] = forward()
    base, unmerged, merged = outputs[BASE], outputs[LORA], outputs[MERGED]
    _expect(torch.equal(base, forward()), "the base's outputs before and after the variants")
    for name in variants.layers:
        _expect(torch.equal(base, outputs[name]), f"the outputs of the base, and with untrained {name}")
    apart = float((merged - unmerged).abs().max() / unmerged.abs().max())
    _expect(apart <= TOLERANCE[base.dtype], f"the outputs with LoRA merged and unmerged ({apart:.1e} apart)")


def _expect(good: bool, what: str) -> None:
    if not good:
        raise HarnessError(f"Not timed, because what should be equal is not: {what}.")


def _calls(forward: Forward, base: Base) -> int:
    """Passes in one timing, so that it lasts long enough to be told from the clock's own noise."""
    forward()
    once = _time(forward, base, 1)
    return max(1, min(MOST_CALLS, round(LEAST_S / once)))


def _time(forward: Forward, base: Base, calls: int) -> float:
    """Seconds of one pass, after one that is not counted."""
    device = next(base.model.parameters()).device
    forward()
    wait(device)
    started = time.perf_counter()
    for _ in range(calls):
        forward()
    wait(device)
    return (time.perf_counter() - started) / calls
