"""The products of a step: which there are, by hand, and that they are repeated as they were."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from src.benchmarks.floor import record_products, replay
from tests.benchmarks.places import LENGTH, ROWS, tiny_bench

TOKENS = ROWS * LENGTH


def shapes(products: list) -> Counter:
    return Counter((product.left.shape, product.right.shape) for product in products)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bert_s_products(attention: str) -> None:
    """Two layers of width 16, 4 heads of 4, MLP 24, 3 classes: forward, and backward to the embeddings."""
    bench = tiny_bench(dtype=torch.float32)
    bench.base.model.config._attn_implementation = attention
    step = bench.stock().step
    found = shapes(record_products(step, bench.base.model.parameters()))
    heads, width = ROWS * 4, 4
    scores, output = ((heads, LENGTH, width), (heads, width, LENGTH)), ((heads, LENGTH, LENGTH), (heads, LENGTH, width))
    turned = ((heads, width, LENGTH), (heads, LENGTH, LENGTH))  # dk^T = q^T ds
    layers = Counter(
        {
            ((TOKENS, 16), (16, 16)): 2 * 2 * 4,  # q, k, v, o, forward and backward
            ((TOKENS, 16), (16, 24)): 2 * 2,  # u forward, d backward
            ((TOKENS, 24), (24, 16)): 2 * 2,
            ((ROWS, 16), (16, 16)): 1,  # the pooler, which transformers runs for nothing
            ((ROWS, 16), (16, 3)): 1,  # the head
            ((ROWS, 3), (3, 16)): 1,
        }
    )
    fused = attention == "sdpa"
    per_layer = {scores: 2, output: 4} if fused else {scores: 2, output: 3, turned: 1}
    assert found == layers + Counter({key: 2 * count for key, count in per_layer.items()})


def test_the_flops_of_a_product() -> None:
    bench = tiny_bench(dtype=torch.float32)
    products = record_products(bench.stock().step, bench.base.model.parameters())
    first = next(product for product in products if product.right.shape == (16, 24))
    assert first.flops == 2 * TOKENS * 16 * 24


def test_weights_are_the_real_ones_and_activations_only_alike() -> None:
    bench = tiny_bench(dtype=torch.float32)
    weights = list(bench.base.model.parameters())
    products = record_products(bench.stock().step, weights)
    held = {weight.untyped_storage().data_ptr() for weight in weights}
    linear = [product for product in products if product.left.shape[0] == TOKENS]
    assert all(product.left.weight is None for product in linear)
    assert {product.right.weight.untyped_storage().data_ptr() for product in linear} <= held
    assert len({product.right.weight.data_ptr() for product in linear}) == 2 * (4 + 2)


def test_replay_computes_every_product() -> None:
    bench = tiny_bench(dtype=torch.float32)
    products = record_products(bench.stock().step, bench.base.model.parameters())
    run = replay(products)
    again = record_products(run, bench.base.model.parameters())
    plain = [product for product in again if product.left.shape[0] != TOKENS]  # others may go to another kernel
    assert shapes(plain) == shapes([product for product in products if product.left.shape[0] != TOKENS])
