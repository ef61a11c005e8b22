"""Parameters from rank and rank from parameters, by real shapes; plain arithmetic.

LoRA adds r (d_in + d_out) parameters to a d_out x d_in matrix (Hu et al. 2021, section 4.1), DoRA d_out more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from src.errors import ConfigError
from src.spec import LoraSpec
from src.spec.ranks import KEY, parse_ranks, rank_of


class Matrix(Protocol):
    """What is to be known of a matrix; `src.adapters.projections.Projection` knows it."""

    @property
    def letter(self) -> str: ...
    @property
    def layer(self) -> int: ...
    @property
    def stack(self) -> str: ...
    @property
    def d_in(self) -> int: ...
    @property
    def d_out(self) -> int: ...


@dataclass(frozen=True)
class Allocation:
    """What a cell gets.

    Attributes:
        rank: r of every adapted matrix but for those that `ranks` gives another; 0 without LoRA.
        parameters: trained parameters besides the head.
        requested: the budget asked for, None where a rank or size was asked for.
        ranks: r of each adapted matrix, in order.
        size: of a method that has one (src/models/methods/sizes.py), else None.
    """

    rank: int
    parameters: int
    requested: int | None = None
    ranks: tuple[int, ...] = ()
    size: int | None = None

    @property
    def residual(self) -> int | None:
        """Parameters of the budget that are left unspent."""
        return None if self.requested is None else self.requested - self.parameters

    @property
    def uniform(self) -> bool:
        """Whether all matrices have the same rank."""
        return len(set(self.ranks)) <= 1


def adapter_parameters(matrices: Sequence[Matrix], ranks: Sequence[int], *, dora: bool = False) -> int:
    """Adapter parameters of matrices with a rank each."""
    factors = sum(rank * (m.d_in + m.d_out) for m, rank in zip(matrices, ranks, strict=True))
    return factors + (sum(m.d_out for m in matrices) if dora else 0)


def max_rank(matrices: Sequence[Matrix]) -> int:
    """The largest rank that every matrix can have: the smallest side of all of them."""
    return min(min(m.d_in, m.d_out) for m in matrices)


def allocate(lora: LoraSpec, matrices: Sequence[Matrix], other: Allocation | None = None) -> Allocation:
    """Ranks and parameter count of a cell that adapts the given matrices.

    With a budget the rank is the largest whose adapters fit, at most the matrices' own rank; ``lora.fill=layers`` then
    spends what is left.

    Args:
        other: what a method beside LoRA takes of the budget first; None for none.

    Raises:
        ConfigError: a rank above the smallest matrix, or a budget below rank 1.
    """
    other = other or Allocation(0, 0)
    if not matrices:
        return Allocation(0, other.parameters, size=other.size)
    ranks = _given(lora, matrices) if lora.budget is None else _from_budget(lora, matrices, other.parameters)
    rank = min(ranks) if lora.ranks is None else lora.rank or min(ranks)
    parameters = adapter_parameters(matrices, ranks, dora=lora.dora) + other.parameters
    return Allocation(rank, parameters, lora.budget, tuple(ranks), other.size)


def _given(lora: LoraSpec, matrices: Sequence[Matrix]) -> list[int]:
    rules = parse_ranks(lora.ranks or {})
    layers = {m.layer for m in matrices}
    for rule in rules:
        covered = any(rule.covers(m.letter, m.layer) for m in matrices)
        if not covered or not layers.issuperset(rule.layers or ()):
            here = f"{lora.targets} in the layers {min(layers)}-{max(layers)}"
            raise ConfigError(KEY, rule.where, f"letters and layers that are adapted, here {here}")
    assert lora.rank is not None
    plain = [m for m in matrices if not any(rule.covers(m.letter, m.layer) for rule in rules)]
    if plain and not 1 <= lora.rank <= max_rank(plain):
        allowed = f"1 to {max_rank(plain)}, the smallest side of the matrices {lora.targets}"
        raise ConfigError("lora.rank", lora.rank, allowed)
    ranks = [rank_of(rules, m.letter, m.layer, lora.rank) for m in matrices]
    for matrix, rank in zip(matrices, ranks, strict=True):
        if rank > max_rank([matrix]):
            limit = max_rank([matrix])
            raise ConfigError(KEY, rank, f"1 to {limit}, the smaller side of {matrix.letter} in layer {matrix.layer}")
    return ranks


def _from_budget(lora: LoraSpec, matrices: Sequence[Matrix], taken: int) -> list[int]:
    assert lora.budget is not None
    first = adapter_parameters(matrices, [1] * len(matrices), dora=lora.dora) + taken
    if lora.budget < first:
        beside = " beside the prefix" if taken else ""
        raise ConfigError("lora.budget", lora.budget, f"at least {first}, rank 1 for {lora.targets}{beside}")
    unit, limit = sum(m.d_in + m.d_out for m in matrices), max_rank(matrices)
    ranks = [min(1 + (lora.budget - first) // unit, limit)] * len(matrices)
    left = lora.budget - taken - adapter_parameters(matrices, ranks, dora=lora.dora)
    return _filled(ranks, matrices, left, limit) if lora.fill == "layers" else ranks


def _filled(ranks: list[int], matrices: Sequence[Matrix], left: int, limit: int) -> list[int]:
    """One more rank in every matrix of as many layers as fit, from the last one down."""
    if ranks[0] == limit:
        return ranks
    for place in reversed(list(dict.fromkeys((m.stack, m.layer) for m in matrices))):
        members = [i for i, m in enumerate(matrices) if (m.stack, m.layer) == place]
        cost = sum(matrices[i].d_in + matrices[i].d_out for i in members)
        if cost <= left:
            left -= cost
            for i in members:
                ranks[i] += 1
    return ranks
