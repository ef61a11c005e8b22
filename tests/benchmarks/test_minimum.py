"""The counted minimum against sums made by hand, and against what really is kept."""

from __future__ import annotations

import pytest
import torch

from src.benchmarks.minimum import counted_minimum
from src.training.costs import saved_bytes
from tests.benchmarks.places import LENGTH, ROWS, tiny_bench

TOKENS, WIDTH, INNER, LAYERS, HEADS = ROWS * LENGTH, 16, 24, 2, 4
NORM = 8 * TOKENS * WIDTH + 4 * TOKENS


def count(
    model_type: str, kind: str = "classification", predicted: int = 0, **changes: object
) -> dict[str, int] | None:
    bench = tiny_bench(model_type, kind, **changes)
    labels = bench.num_labels
    return counted_minimum(bench.base, bench.setup, ROWS, LENGTH, num_labels=labels, num_predicted=predicted)


def test_bert() -> None:
    """Two layers of width 16 in float64, r = 2 on q and v."""
    # 64 bytes of logsumexps and outputs for a token and head, 80 of probabilities.
    attention = LAYERS * (3 * 8 * TOKENS * WIDTH + 8 * TOKENS * WIDTH + 4 * TOKENS * HEADS)
    assert count("bert") == {
        "attention": attention,
        "norms": LAYERS * 2 * NORM,
        "mlp": LAYERS * 8 * TOKENS * INNER,
        "adapter inputs": 8 * TOKENS * WIDTH,
        "A x": LAYERS * 2 * 8 * TOKENS * 2,
        "dropout masks": 0,
        "head": 4 * ROWS * (WIDTH + 3),
    }


def test_dropout_adds_a_byte_for_each_element() -> None:
    plain, dropped = count("bert", targets="qvo"), count("bert", targets="qvo", dropout=0.1)
    assert plain is not None and dropped is not None
    assert dropped == plain | {"dropout masks": LAYERS * 3 * TOKENS * WIDTH}


def test_llama_has_a_gate_grouped_keys_and_a_last_norm() -> None:
    found = count("llama")
    assert found is not None
    query, key = 8 * TOKENS * WIDTH, 8 * TOKENS * WIDTH // 2
    assert found["attention"] == LAYERS * (query + 2 * key + query + 4 * TOKENS * HEADS)
    assert found["mlp"] == LAYERS * 2 * 8 * TOKENS * INNER
    # Nothing leaves the lowest layer at its lower end: of its first norm only what q and v read.
    assert found["norms"] == 3 * NORM + NORM
    assert found["adapter inputs"] == 8 * TOKENS * WIDTH


def test_only_the_top_layer() -> None:
    found = count("bert", layers="1-1", targets="v")
    assert found is not None
    # The gradient of v is p^T g: p, or what it can be made of.
    assert found["attention"] == min(8 * ROWS * HEADS * LENGTH**2, 2 * 8 * TOKENS * WIDTH + 4 * TOKENS * HEADS)
    assert found["norms"] == 2 * NORM and found["mlp"] == 8 * TOKENS * INNER


def test_only_the_mlp_s_last_matrix() -> None:
    found = count("bert", layers="1-1", targets="d")
    assert found is not None
    assert (found["attention"], found["norms"], found["mlp"]) == (0, NORM, 8 * TOKENS * INNER)


def test_text_to_predict_needs_logits() -> None:
    found = count("llama", "causal_lm", predicted=7)
    assert found is not None and found["head"] == 7 * (8 * 100 + 4)


def test_other_architectures_are_not_counted() -> None:
    assert count("qwen3") is None


@pytest.mark.parametrize("model_type", ["bert", "llama"])
@pytest.mark.parametrize("targets", ["v", "qv", "qkvo"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_no_pass_keeps_less(model_type: str, targets: str, dropout: float) -> None:
    bench = tiny_bench(model_type, dtype=torch.float32, targets=targets, dropout=dropout)
    parts = counted_minimum(bench.base, bench.setup, ROWS, LENGTH, num_labels=bench.num_labels)
    assert parts is not None
    assert sum(parts.values()) <= saved_bytes(bench.ours().loss)
