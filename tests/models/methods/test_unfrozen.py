"""Full fine-tuning and BitFit: the right parameters, plain fine-tuning's gradients, masters in full precision."""

from __future__ import annotations

import pytest
import torch

from src.errors import ConfigError
from src.models.loading import freeze
from src.models.methods import with_weights
from src.models.methods.unfrozen import Unfrozen, bias_names, num_parameters
from src.models.methods.used import used_names
from tests.tiny import tiny_base, token_ids
from tests.tiny_architectures import CASES


def test_gradients_are_those_of_training_the_model_itself() -> None:
    """Tied embeddings get those of both their uses."""
    base, ids = tiny_base("gpt2", "causal_lm"), token_ids(2, 6)
    method = Unfrozen(base, used_names(base), dtype=torch.float64)

    def loss() -> torch.Tensor:
        return base.model(input_ids=ids, labels=ids).loss

    with_weights(base.model, method.weights(), loss).backward()
    base.model.requires_grad_(True)
    loss().backward()
    own = dict(base.model.named_parameters())
    assert method.parameters().keys() == own.keys()
    for name, parameter in method.parameters().items():
        torch.testing.assert_close(parameter.grad, own[name].grad)


def test_masters_are_copies_and_stand_in_for_tied_weights_too() -> None:
    base, ids = tiny_base("gpt2", "causal_lm"), token_ids(2, 6)
    before = base.model(input_ids=ids).logits
    method = Unfrozen(base, used_names(base), dtype=torch.float64)
    with torch.no_grad():
        method.parameters()["transformer.wte.weight"].zero_()
    assert torch.equal(base.model(input_ids=ids).logits, before)
    logits = with_weights(base.model, method.weights(), lambda: base.model(input_ids=ids).logits)
    assert not logits.any(), "the head is the embeddings"


def test_a_bfloat16_base_has_float32_masters() -> None:
    base = tiny_base("bert", dtype=torch.bfloat16)
    method = Unfrozen(base, used_names(base), dtype=torch.float32)
    assert {p.dtype for p in method.parameters().values()} == {torch.float32}
    own = dict(base.model.named_parameters())
    for name, weight in method.weights().items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, own[name])


@pytest.mark.parametrize("name", CASES)
def test_bitfit_has_every_bias_vector_that_takes_part(name: str) -> None:
    base = freeze(CASES[name].build(), "classification", "tiny")
    biases = {n for n in used_names(base) if n.endswith("bias") and "attention_bias" not in n}
    if not biases:
        with pytest.raises(ConfigError, match=r"method\.name is 'bitfit'; allowed: .* model has no biases"):
            bias_names(base)
        return
    assert set(bias_names(base)) == biases
    own = dict(base.model.named_parameters())
    assert all(own[n].dim() == 1 for n in biases)


def test_counts_by_hand() -> None:
    """BERT, width 16, MLP 24, two layers of q, k, v, o, MLP up and down, 2 LayerNorms; the embeddings' LayerNorm."""
    base = tiny_base("bert")
    assert num_parameters(base, bias_names(base)) == 2 * (4 * 16 + 24 + 16 + 2 * 16) + 16
    weights = 2 * (4 * 16 * 16 + 2 * 16 * 24 + 2 * 16) + 16 + 16 * (100 + 66 + 2)
    assert num_parameters(base, used_names(base)) == weights + num_parameters(base, bias_names(base))
