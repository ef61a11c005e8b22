"""Where each letter lives: from architecture and letter to a module and an output slice.

Counts and shapes come from the real modules (on the meta device if need be), never from assumptions about heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from src.errors import HarnessError
from src.spec import LETTERS, Letter, expand_targets, layer_range


@dataclass(frozen=True)
class Place:
    """A letter's home in each layer.

    Attributes:
        module: dotted name inside the backbone, with ``{i}`` for the layer's index.
        part, parts: the letter is the `part`-th of `parts` equal output slices of a fused weight.
    """

    module: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Projection:
    """One weight matrix W (d_out x d_in) that can be adapted.

    Attributes:
        module: dotted name inside the backbone.
        start: first output unit of the slice within the module's weight.
        module_out: output units of the whole module; equals `d_out` unless the weight is fused.
        transposed: whether the module stores its weight as d_in x d_out (transformers' Conv1D).
    """

    letter: Letter
    layer: int
    module: str
    d_in: int
    d_out: int
    start: int
    module_out: int
    transposed: bool

    @property
    def key(self) -> str:
        """Unique name of the projection."""
        return f"{self.module}.{self.letter}"


_BERT: Mapping[Letter, Place] = {
    "q": Place("encoder.layer.{i}.attention.self.query"),
    "k": Place("encoder.layer.{i}.attention.self.key"),
    "v": Place("encoder.layer.{i}.attention.self.value"),
    "o": Place("encoder.layer.{i}.attention.output.dense"),
    "u": Place("encoder.layer.{i}.intermediate.dense"),
    "d": Place("encoder.layer.{i}.output.dense"),
}
_GPT2: Mapping[Letter, Place] = {
    "q": Place("h.{i}.attn.c_attn", part=0, parts=3),
    "k": Place("h.{i}.attn.c_attn", part=1, parts=3),
    "v": Place("h.{i}.attn.c_attn", part=2, parts=3),
    "o": Place("h.{i}.attn.c_proj"),
    "u": Place("h.{i}.mlp.c_fc"),
    "d": Place("h.{i}.mlp.c_proj"),
}
_LLAMA: Mapping[Letter, Place] = {
    "q": Place("layers.{i}.self_attn.q_proj"),
    "k": Place("layers.{i}.self_attn.k_proj"),
    "v": Place("layers.{i}.self_attn.v_proj"),
    "o": Place("layers.{i}.self_attn.o_proj"),
    "u": Place("layers.{i}.mlp.up_proj"),
    "g": Place("layers.{i}.mlp.gate_proj"),
    "d": Place("layers.{i}.mlp.down_proj"),
}
ARCHITECTURES: Mapping[str, Mapping[Letter, Place]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}


def places_of(model_type: str) -> Mapping[Letter, Place]:
    """The table of an architecture.

    Args:
        model_type: as in the model's config.json.

    Raises:
        HarnessError: an architecture without a table; the message lists those that have one.
    """
    if model_type not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise HarnessError(
            f"The architecture {model_type!r} has no projection table; there are tables for {known}. "
            "Add one to src/adapters/projections.py."
        )
    return ARCHITECTURES[model_type]


def find_projections(backbone: nn.Module, model_type: str) -> tuple[Projection, ...]:
    """All projections of a backbone, ordered by layer, then by letter (qkvougd).

    Raises:
        HarnessError: a table for this architecture is missing or matches no module.
    """
    places = places_of(model_type)
    found: list[Projection] = []
    while layer := list(_layer_projections(backbone, places, found[-1].layer + 1 if found else 0)):
        found += layer
    if not found:
        linear = [name for name, module in backbone.named_modules() if hasattr(module, "weight")]
        raise HarnessError(
            f"No projection of the {model_type} table matches a module of this model; it has, for example, "
            f"{', '.join(linear[:8])}."
        )
    return tuple(found)


def select_projections(
    projections: Sequence[Projection], targets: str, layers: str | None = None
) -> tuple[Projection, ...]:
    """The projections that a cell adapts.

    Args:
        targets: canonical letters or word.
        layers: inclusive range ``a-b``, None for all layers.

    Raises:
        ConfigError: a letter that the model lacks or a range outside of it.
    """
    letters = expand_targets(targets, {p.letter for p in projections})
    if letters == "none":
        return ()
    chosen = layer_range(layers, 1 + max(p.layer for p in projections))
    return tuple(p for p in projections if p.letter in letters and p.layer in chosen)


def _layer_projections(backbone: nn.Module, places: Mapping[Letter, Place], layer: int) -> Iterator[Projection]:
    for letter in LETTERS:
        place = places.get(letter)
        name = place.module.format(i=layer) if place else ""
        module = _submodule(backbone, name) if place else None
        if place is not None and module is not None:
            d_in, out = weight_shape(module)
            size = out // place.parts
            yield Projection(letter, layer, name, d_in, size, place.part * size, out, is_transposed(module))


def weight_shape(module: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a linear layer; GPT-2's Conv1D stores its weight as d_in x d_out."""
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    rows, columns = weight.shape
    return (rows, columns) if is_transposed(module) else (columns, rows)


def is_transposed(module: nn.Module) -> bool:
    """Whether the weight is stored as d_in x d_out (transformers' Conv1D)."""
    return type(module).__name__ == "Conv1D"


def _submodule(root: nn.Module, name: str) -> nn.Module | None:
    try:
        return root.get_submodule(name)
    except AttributeError:
        return None
