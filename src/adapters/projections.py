"""From architecture and letter to a module and its output units.

Shapes come from the real modules (on the meta device if need be); the config only gives the numbers of heads, and only
where letters share a weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from src.adapters.architectures import has_shared_rows, table_of
from src.adapters.named import KEY, Shapes, list_linear, misfit, no_table, table_from
from src.adapters.places import MisfitError, Place, parse_place
from src.adapters.rows import Rows
from src.errors import ConfigError
from src.spec import LETTERS, Letter, expand_targets, layer_range


@dataclass(frozen=True)
class Projection:
    """One weight matrix W (d_out x d_in) that can be adapted.

    Attributes:
        layer: counted within its stack.
        module: dotted name inside the backbone.
        rows: the letter's output units within the module's weight.
        module_out: output units of the whole module; equals `d_out` unless the weight is fused.
        transposed: whether the module stores its weight as d_in x d_out (transformers' Conv1D).
        stack: of encoder-decoder models ``encoder``, ``decoder`` or ``cross``; else empty.
        shared_rows: whether the matrix also meets rows that belong to the whole batch, and so to no single lane of a
            pack (src/adapters/architectures.py).
    """

    letter: Letter
    layer: int
    module: str
    d_in: int
    rows: Rows
    module_out: int
    transposed: bool
    stack: str = ""
    shared_rows: bool = False

    @property
    def d_out(self) -> int:
        """Output units of the letter."""
        return self.rows.size

    @property
    def decodes(self) -> bool:
        """Whether its input is the decoder's own; W_k and W_v of cross-attention read what the encoder put out."""
        return self.stack == "decoder" or (self.stack == "cross" and self.letter in "qo")

    @property
    def key(self) -> str:
        """Unique name of the projection."""
        return f"{self.module}.{self.letter}"


def find_projections(
    backbone: nn.Module, config: Any, named: Mapping[str, str] | None = None
) -> tuple[Projection, ...]:
    """All projections of a backbone: stack by stack, then by layer, then by letter (qkvougd).

    Letters that share a module stand side by side, also where that breaks the order of the letters.

    Args:
        config: the model's, for its model_type and numbers of heads.
        named: `model.projections`, letter (or stack/letter) to place (src/adapters/places.py), in place of the table.

    Raises:
        ConfigError: an architecture without a table, or a place that does not fit the model; the message lists the
            model's linear layers.
    """
    linear = {name: module for name, module in backbone.named_modules() if _is_linear(module)}
    table = table_of(config) if named is None else table_from(named)
    if table is None:
        raise no_table(config.model_type, _shapes(linear))
    found: list[Projection] = []
    for stack, places in table.items():
        for letter, text in places.items():
            try:
                found += _of_letter(letter, stack, parse_place(text), linear, config)
            except MisfitError as error:
                where = f"{stack}/{letter}" if stack else letter
                raise misfit(where, text, str(error), table=config.model_type if named is None else None) from error
    if named is not None:
        _check_overlaps(found)
    return _ordered(found, tuple(table))


def select_projections(
    projections: Sequence[Projection], targets: str, layers: str | None = None, stacks: str | None = None
) -> tuple[Projection, ...]:
    """The projections that a cell adapts.

    Args:
        targets: canonical letters or word.
        layers: inclusive range ``a-b`` of each stack's own layers, None for all layers.
        stacks: as in `in_stacks`.

    Raises:
        ConfigError: a letter or stack that the model lacks, or a range outside of it.
    """
    here = in_stacks(projections, stacks)
    letters = expand_targets(targets, {p.letter for p in here})
    if letters == "none":
        return ()
    chosen = layer_range(layers, 1 + max(p.layer for p in here))
    return tuple(p for p in here if p.letter in letters and p.layer in chosen)


def in_stacks(projections: Sequence[Projection], stacks: str | None) -> tuple[Projection, ...]:
    """The projections of some stacks.

    Args:
        stacks: names joined by ``+``, None for all.

    Raises:
        ConfigError: a stack that the model lacks.
    """
    if stacks is None:
        return tuple(projections)
    present = list(dict.fromkeys(p.stack for p in projections if p.stack))
    wanted = stacks.split("+")
    if not set(wanted) <= set(present):
        several = f"{', '.join(present)}, several of them joined by +, or null for all" if present else ""
        raise ConfigError(
            "lora.stacks", stacks, several or "null, as this model has no encoder and decoder side by side"
        )
    return tuple(p for p in projections if p.stack in wanted)


def weight_shape(module: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a linear layer; GPT-2's Conv1D stores its weight as d_in x d_out."""
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    rows, columns = weight.shape
    return (rows, columns) if is_transposed(module) else (columns, rows)


def is_transposed(module: nn.Module) -> bool:
    """Whether the weight is stored as d_in x d_out (transformers' Conv1D)."""
    return any(cls.__name__ == "Conv1D" for cls in type(module).__mro__)


def _is_linear(module: nn.Module) -> bool:
    # torch's own attention takes the weight of its out_proj and never calls it, so an adapter there would do nothing.
    called = isinstance(module, nn.Linear) and not isinstance(module, NonDynamicallyQuantizableLinear)
    return called or is_transposed(module)


def _shapes(linear: Mapping[str, nn.Module]) -> Shapes:
    return {name: weight_shape(module) for name, module in linear.items()}


def _of_letter(
    letter: Letter, stack: str, place: Place, linear: Mapping[str, nn.Module], config: Any
) -> list[Projection]:
    """The projection of one letter in every layer.

    Raises:
        MisfitError: no module has that name, or the letter's part does not fit its weight.
    """
    found, shared = [], has_shared_rows(config, letter)
    for name, module in linear.items():
        if (match := place.matches(name)) is not None:
            layer = int(match[1]) if match.groups() else 0
            d_in, out = weight_shape(module)
            rows = place.rows(out, config)
            found.append(Projection(letter, layer, name, d_in, rows, out, is_transposed(module), stack, shared))
    if not found:
        raise MisfitError(f"one of the linear layers of this model, inputs x outputs:\n{list_linear(_shapes(linear))}")
    return found


def _ordered(found: Sequence[Projection], stacks: Sequence[str]) -> tuple[Projection, ...]:
    ranks = [(stacks.index(p.stack), p.layer, LETTERS.index(p.letter)) for p in found]
    first: dict[str, tuple[int, int, int]] = {}
    for p, rank in zip(found, ranks, strict=True):
        first[p.module] = min(first.get(p.module, rank), rank)
    order = sorted(range(len(found)), key=lambda at: (first[found[at].module], ranks[at]))
    return tuple(found[at] for at in order)


def _check_overlaps(found: Sequence[Projection]) -> None:
    owners: dict[tuple[str, int], Projection] = {}
    for p in found:
        for unit in p.rows.index().tolist():
            other = owners.setdefault((p.module, unit), p)
            if other is not p:
                raise ConfigError(
                    KEY, f"{other.letter} and {p.letter}", "output units that no other letter has, such as [0/2] and "
                    f"[1/2] of a fused weight; both have unit {unit} of {p.module}"
                )  # fmt: skip
