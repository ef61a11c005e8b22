"""The least that a step's forward pass must keep for its backward pass when W0 is frozen, counted by hand.

Counted is what the gradients are made of, tensor by tensor; what an elementwise function gives back from something
that is kept anyway is not counted twice, and no matrix product is computed again. With n tokens, width d, MLP width f,
h heads (h_k of keys and values) of d_h, L tokens in a row, b rows and e bytes for an element:

    BERT, RoBERTa, each layer                        Llama, Mistral, Qwen2, each layer
      q, k, v: n d e each                              q, k, v after rotation: n h d_h e, n h_k d_h e twice
      attention: b h L^2 e of probabilities, or its output n d e with b h L logsumexps, whichever is less
      LayerNorm, twice: the normalised n d e           RMSNorm, twice: the normalised n d e
      MLP: what goes into the activation, n f e        MLP: gate and up, n f e each

and for each norm a scale of four bytes for a token; after the last layer of the Llama kind one norm more. Adapters add
A x, n r e each, and with dropout their masks, n d_in of one byte; further their inputs where those are not kept: the
input of q, k, v, u and g is a norm's output, that of d a function of what goes into the activation, and that of o the
attention's output. Where nothing is trained below, nothing is kept for a gradient: of the lowest adapted layer only
what lies between its adapters and the loss. The head adds its input and the logits' probabilities in float32; where
text is predicted, the logits with their logsumexps. Attention masks, which have no gradient, do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from src.adapters.projections import Projection
from src.models.loading import Base
from src.models.setup import LaneSetup

POST_NORM = frozenset({"bert", "roberta", "xlm-roberta"})
PRE_NORM = frozenset({"llama", "mistral", "qwen2"})
SCALE = 4  # bytes of a norm's scale and of a logsumexp


@dataclass(frozen=True)
class Sizes:
    """Shapes of a model and a batch.

    Attributes:
        rows, length: b and L.
        item: e.
        gated: whether the MLP has a gate, and norms come before their block.
        width, inner, heads, key_heads, head_width: d, f, h, h_k and d_h.
    """

    rows: int
    length: int
    item: int
    gated: bool
    width: int
    inner: int
    heads: int
    key_heads: int
    head_width: int

    @property
    def tokens(self) -> int:
        """n."""
        return self.rows * self.length

    def tensor(self, width: int) -> int:
        """Bytes of n x width."""
        return self.tokens * width * self.item

    @property
    def norm(self) -> int:
        """A norm's normalised input and its scales."""
        return self.tensor(self.width) + SCALE * self.tokens


def counted_minimum(
    base: Base, setup: LaneSetup, rows: int, length: int, *, num_labels: int, num_predicted: int = 0
) -> dict[str, int] | None:
    """Bytes by what they are for, of LoRA cells on classification, regression or next-token prediction.

    Args:
        rows, length: of a batch without padding.
        num_labels: of the head; 0 where text is predicted.
        num_predicted: tokens of the batch that are predicted.

    Returns:
        None for architectures that are not counted here (see the top of this file).
    """
    model: Any = base.model
    sizes = _sizes(model.config, rows, length, next(model.parameters()).element_size())
    if sizes is None or not setup.projections:
        return None
    lowest = min(projection.layer for projection in setup.projections)
    count = 1 + max(projection.layer for projection in base.projections)
    found = {"attention": 0, "norms": 0, "mlp": 0, "adapter inputs": 0}
    for layer in range(lowest, count):
        letters = {p.letter for p in setup.projections if p.layer == layer}
        for name, size in _layer(sizes, letters, lowest=layer == lowest).items():
            found[name] += size
    found["norms"] += sizes.norm if sizes.gated else 0
    return found | _adapters(sizes, setup) | {"head": _head(sizes, num_labels, model.config.vocab_size, num_predicted)}


def _sizes(config: Any, rows: int, length: int, item: int) -> Sizes | None:
    if config.model_type not in POST_NORM | PRE_NORM:
        return None
    heads = config.num_attention_heads
    return Sizes(
        rows, length, item,
        gated=config.model_type in PRE_NORM,
        width=config.hidden_size,
        inner=config.intermediate_size,
        heads=heads,
        key_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_width=getattr(config, "head_dim", None) or config.hidden_size // heads,
    )  # fmt: skip


def _layer(sizes: Sizes, letters: Set[str], *, lowest: bool) -> Mapping[str, int]:
    """What a layer keeps.

    Args:
        letters: adapted in it.
        lowest: whether nothing is trained below.
    """
    reaches_attention = not lowest or bool(letters & set("qkvo"))
    return {
        "attention": _attention(sizes, letters, scores=not lowest or bool(letters & set("qk")), below=not lowest),
        "norms": _norms(sizes, letters, below=not lowest, attention=reaches_attention),
        "mlp": _mlp(sizes, letters, passes=reaches_attention),
        "adapter inputs": sizes.tensor(sizes.width) if lowest and letters & set("qkv") else 0,
    }


def _attention(sizes: Sizes, letters: Set[str], *, scores: bool, below: bool) -> int:
    """Args:
    scores: whether gradients of q or k are needed.
    below: whether gradients of all three are.
    """
    query, key = sizes.tensor(sizes.heads * sizes.head_width), sizes.tensor(sizes.key_heads * sizes.head_width)
    probabilities = sizes.rows * sizes.heads * sizes.length**2 * sizes.item
    logsumexps = SCALE * sizes.rows * sizes.heads * sizes.length
    output = query if "o" in letters else 0
    if scores or below:
        return query + 2 * key + min(probabilities + output, query + logsumexps)
    if "v" in letters:
        return output + min(probabilities, query + key + logsumexps)
    return output


def _norms(sizes: Sizes, letters: Set[str], *, below: bool, attention: bool) -> int:
    """Args:
    below: whether a gradient leaves the layer at its lower end.
    attention: whether one gets as far as the attention's output.
    """
    # Where no gradient goes through the norm before the MLP, the input of u and g may still be needed.
    before_mlp = sizes.norm if attention else sizes.tensor(sizes.width) * bool(letters & set("ug"))
    # The other is the last of a layer of BERT's kind, the first of one of Llama's.
    return before_mlp + (sizes.norm if below or not sizes.gated else 0)


def _mlp(sizes: Sizes, letters: Set[str], *, passes: bool) -> int:
    """Args:
    passes: whether a gradient goes through the whole of it.
    """
    inner = sizes.tensor(sizes.inner)
    if passes or letters & set("ug"):
        return 2 * inner if sizes.gated else inner
    return inner if "d" in letters else 0


def _adapters(sizes: Sizes, setup: LaneSetup) -> dict[str, int]:
    pairs: Sequence[tuple[Projection, int]] = list(zip(setup.projections, setup.allocation.ranks, strict=True))
    masks = sum(sizes.tokens * projection.d_in for projection, _ in pairs) if setup.spec.lora.dropout > 0 else 0
    return {"A x": sum(sizes.tensor(rank) for _, rank in pairs), "dropout masks": masks}


def _head(sizes: Sizes, num_labels: int, vocabulary: int, num_predicted: int) -> int:
    if num_labels:
        return SCALE * sizes.rows * (sizes.width + num_labels)
    return num_predicted * (vocabulary * sizes.item + SCALE)
