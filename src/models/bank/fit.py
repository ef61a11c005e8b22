"""Whether an adapter is one for a base."""

from __future__ import annotations

from collections.abc import Mapping

from src.adapters.lowrank import LowRank
from src.errors import HarnessError
from src.models.bank.head import TaskHead
from src.models.loading import Base


def check_fit(name: str, adapters: Mapping[str, LowRank], head: TaskHead | None, base: Base) -> None:
    """Raises:
    HarnessError: a letter that the base lacks, or factors or a head of other shapes.
    """
    projections = {p.key: p for p in base.projections}
    if missing := [key for key in adapters if key not in projections]:
        there = ", ".join([*projections][:3])
        raise HarnessError(
            f"The adapter {name!r} does not fit the base: it has no {missing[0]}, but, for example, {there}."
        )
    for key, adapter in adapters.items():
        projection = projections[key]
        (rank, d_in), (d_out, columns) = adapter.a.shape, adapter.b.shape
        if (d_in, d_out, columns) != (projection.d_in, projection.d_out, rank) or adapter.rows != projection.rows:
            raise HarnessError(
                f"The adapter {name!r} does not fit the base: A and B of {key} are {rank} x {d_in} and {d_out} x "
                f"{columns}, not r x {projection.d_in} and {projection.d_out} x r of the same output units."
            )
    if head is not None and head.weight.shape[1:] != (base.hidden_size,):
        raise HarnessError(f"The head of {name!r} is for states of another width than {base.hidden_size}.")
