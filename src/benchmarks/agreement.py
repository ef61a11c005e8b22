"""Whether the sides of a comparison compute the same, before anything is timed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from src.benchmarks.sides import Ours, Peer
from src.errors import HarnessError

# Largest distance of a loss, or of all gradients together, as a share of their norm, that is put down to rounding; of
# gradients for every six layers (30 layers of SmolLM2 came to 8e-6 in float32, 6 of MiniLM to 6e-7). In bfloat16 both
# sides round every activation to 8 bits, in another order.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}


@torch.no_grad()
def draw_b(ours: Ours, seed: int = 0) -> None:
    """Random B, so that the adapters do something."""
    generator = torch.Generator().manual_seed(seed)
    for own in ours.factors().values():
        own["B"].copy_(0.02 * torch.randn(own["B"].shape, generator=generator))


@torch.no_grad()
def copy_factors(ours: Ours, peer: Peer) -> None:
    """Give the peer our A and B; magnitudes are the weight's own norms on both sides."""
    for key, own in ours.factors().items():
        for name in ("A", "B"):
            peer.factors[key][name].copy_(own[name])


def check_equal(name: str, ours: Ours, peer: Peer, dtype: torch.dtype) -> str:
    """Loss and gradients of A, B (and m) of both sides, which must have no dropout and the same factors.

    Returns:
        What was found, one sentence.

    Raises:
        HarnessError: they differ by more than rounding.
    """
    mine, theirs = ours.loss(), peer.loss()
    mine.backward()
    theirs.backward()
    own = _gradients(ours.factors().values())
    other = _gradients(peer.factors.values())
    distances = {"loss": _distance(mine.detach(), theirs.detach()), "gradients": _distance(own, other)}
    allowed = {"loss": TOLERANCE[dtype], "gradients": TOLERANCE[dtype] * max(1.0, _num_layers(ours) / 6)}
    for what, distance in distances.items():
        _expect(distance <= allowed[what], f"the {what} of ours and of {name} in {_name(dtype)}", distance)
    apart = " and ".join(f"{what} {distance:.1e} apart" for what, distance in distances.items())
    return f"ours and {name} in {_name(dtype)}: {apart}"


def check_loss(what: str, mine: Tensor, theirs: Tensor, dtype: torch.dtype) -> str:
    """Raises:
    HarnessError: two losses differ by more than rounding.
    """
    distance = _distance(mine.detach(), theirs.detach())
    _expect(distance <= TOLERANCE[dtype], f"the losses of {what} in {_name(dtype)}", distance)
    return f"{what} in {_name(dtype)}: loss {distance:.1e} apart"


def _num_layers(ours: Ours) -> int:
    """Of the model."""
    return 1 + max(projection.layer for projection in ours.model.base.projections)


def _gradients(factors: Iterable[Mapping[str, nn.Parameter]]) -> Tensor:
    """All gradients end to end, in the order of names."""
    found = []
    for own in factors:
        for name in sorted(own):
            gradient = own[name].grad
            assert gradient is not None
            found.append(gradient.double().flatten())
    return torch.cat(found)


def _distance(mine: Tensor, theirs: Tensor) -> float:
    difference = torch.linalg.vector_norm(mine.double() - theirs.double())
    return float(difference / torch.linalg.vector_norm(theirs.double()))


def _expect(good: bool, what: str, distance: float) -> None:
    if not good:
        raise HarnessError(f"Not measured, because what should be equal is not: {what} are {distance:.1e} apart.")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
