"""Random-subspace training: the dense product, the layers' scales, and the start."""

from __future__ import annotations

import pytest
import torch

from src.models.loading import Base
from src.models.methods import with_weights
from src.models.methods.subspace import RandomSubspace, layer_names
from src.models.methods.used import used_names
from tests.tiny import tiny_base, token_ids


def make(base: Base, size: int = 9, *, said: bool = True, seed: int = 0) -> RandomSubspace:
    return RandomSubspace(base, size, said=said, dtype=torch.float64, seed=seed)


def shaken(method: RandomSubspace) -> RandomSubspace:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in method.parameters().values():
            parameter.normal_(generator=generator)
    return method


def dense(method: RandomSubspace, name: str) -> torch.Tensor:
    """P of one parameter, column by column."""
    matrix = method._moved[name].matrix
    return torch.stack([matrix.times(unit) for unit in torch.eye(matrix.columns, dtype=torch.float64)], dim=1)


@pytest.mark.parametrize("said", [False, True])
@pytest.mark.parametrize(("model_type", "kind"), [("bert", "classification"), ("llama", "causal_lm")])
def test_weights_are_the_start_and_the_dense_product(model_type, kind, said) -> None:
    base = tiny_base(model_type, kind)
    method = shaken(make(base, said=said))
    theta = method.parameters()["subspace.theta"]
    scales = method.parameters().get("subspace.scale", torch.ones(3))
    own, names = dict(base.model.named_parameters()), used_names(base)
    weights = method.weights()
    assert tuple(weights) == names
    for name in names:
        number = next((1 + i for i in range(2) if f".{i}." in f".{name}"), 0)
        scale = scales[[0, 1, 2][number]]
        expected = own[name] + scale * (dense(method, name) @ theta).view(own[name].shape)
        torch.testing.assert_close(weights[name], expected)


def test_a_layer_is_a_transformers_layer_and_all_else_is_one_more() -> None:
    assert layer_names(used_names(tiny_base("bert"))) == ["", "encoder.layer.0", "encoder.layer.1"]
    assert layer_names(used_names(tiny_base("gpt2", "causal_lm"))) == ["", "transformer.h.0", "transformer.h.1"]
    t5 = layer_names(used_names(tiny_base("t5", "seq2seq")))
    assert t5 == ["", *(f"encoder.block.{i}" for i in range(2)), *(f"decoder.block.{i}" for i in range(3))]


@pytest.mark.parametrize("said", [False, True])
def test_all_of_size_is_trained_and_nothing_moves_at_the_start(said: bool) -> None:
    base = tiny_base("bert")
    method = make(base, 20, said=said)
    assert sum(parameter.numel() for parameter in method.parameters().values()) == 20
    assert len(method.parameters()["subspace.theta"]) == (17 if said else 20)
    own = dict(base.model.named_parameters())
    assert all(torch.equal(weight, own[name]) for name, weight in method.weights().items())


def test_gradients_are_those_of_full_fine_tuning_projected() -> None:
    base, ids = tiny_base("gpt2", "causal_lm"), token_ids(2, 6)
    method = shaken(make(base))

    def loss() -> torch.Tensor:
        return base.model(input_ids=ids, labels=ids).loss

    weights = method.weights()
    grads = torch.autograd.grad(with_weights(base.model, weights, loss), list(weights.values()), retain_graph=True)
    with_weights(base.model, weights, loss).backward()
    theta, scale = method.parameters().values()
    expected_theta, expected_scale = torch.zeros_like(theta), torch.zeros_like(scale)
    for (name, moved), grad in zip(method._moved.items(), grads, strict=True):
        back = dense(method, name).T @ grad.flatten()
        expected_theta += scale[moved.layer].detach() * back
        expected_scale[moved.layer] += theta.detach() @ back
    torch.testing.assert_close(theta.grad, expected_theta)
    torch.testing.assert_close(scale.grad, expected_scale)


def test_gradcheck() -> None:
    method = shaken(make(tiny_base("bert"), 7))
    names = [next(iter(method._moved)), "encoder.layer.1.output.dense.bias"]

    def run(theta: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
        method._theta, method._scale = theta, scale  # type: ignore[assignment]
        return tuple(method._move(method._moved[name]) for name in names)

    assert torch.autograd.gradcheck(run, tuple(method.parameters().values()), fast_mode=True)


def test_a_step_is_as_long_in_each_parameter_as_in_the_subspace() -> None:
    """Columns of length 1: a weight matrix moves as far as theta, whatever its size."""
    base = tiny_base("bert")
    method = shaken(make(base, 200, said=False))
    length = method.parameters()["subspace.theta"].norm()
    own = dict(base.model.named_parameters())
    for name in ("embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"):
        moved = (method.weights()[name] - own[name]).norm()
        assert (moved / length).item() == pytest.approx(1.0, abs=0.25)


def test_the_seed_is_the_subspace() -> None:
    base = tiny_base("bert")
    first, again, other = (shaken(make(base, seed=seed)).weights() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.allclose(first[name], other[name]) for name in first)


def test_a_bfloat16_base_is_moved_in_float32() -> None:
    base = tiny_base("bert", dtype=torch.bfloat16)
    method = RandomSubspace(base, 9, said=True, dtype=torch.float32)
    assert {p.dtype for p in method.parameters().values()} == {torch.float32}
    assert {w.dtype for w in method.weights().values()} == {torch.bfloat16}
