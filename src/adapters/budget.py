"""Parameters from rank and rank from parameters, by real shapes; plain arithmetic.

LoRA adds r (d_in + d_out) parameters to a d_out x d_in matrix (Hu et al. 2021, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.errors import ConfigError
from src.spec import LoraSpec

Shape = tuple[int, int]


@dataclass(frozen=True)
class Allocation:
    """What a cell gets.

    Attributes:
        rank: r, the same in every adapted matrix; 0 without adapters.
        parameters: adapter parameters in all.
        requested: the budget asked for, None where a rank was asked for.
    """

    rank: int
    parameters: int
    requested: int | None = None

    @property
    def residual(self) -> int | None:
        """Parameters of the budget that are left unspent."""
        return None if self.requested is None else self.requested - self.parameters


def adapter_parameters(shapes: Sequence[Shape], rank: int) -> int:
    """Adapter parameters of `rank` on matrices of the given (d_in, d_out)."""
    return rank * sum(d_in + d_out for d_in, d_out in shapes)


def max_rank(shapes: Sequence[Shape]) -> int:
    """The largest rank that every matrix can have: the smallest side of all of them."""
    return min(min(shape) for shape in shapes)


def allocate(lora: LoraSpec, shapes: Sequence[Shape]) -> Allocation:
    """Rank and parameter count of a cell whose adapted matrices have the given (d_in, d_out).

    With a budget the rank is the largest whose adapters fit, at most the matrices' own rank.

    Raises:
        ConfigError: a rank above the smallest matrix, or a budget below rank 1.
    """
    if not shapes:
        return Allocation(0, 0)
    unit, limit = adapter_parameters(shapes, 1), max_rank(shapes)
    if lora.budget is not None:
        if lora.budget < unit:
            raise ConfigError("lora.budget", lora.budget, f"at least {unit}, rank 1 for {lora.targets}")
        rank = min(lora.budget // unit, limit)
        return Allocation(rank, rank * unit, lora.budget)
    if lora.rank is None or not 1 <= lora.rank <= limit:
        raise ConfigError("lora.rank", lora.rank, f"1 to {limit}, the smallest side of the matrices {lora.targets}")
    return Allocation(lora.rank, lora.rank * unit)
