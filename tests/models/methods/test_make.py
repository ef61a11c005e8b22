"""Each method in the loop that all cells share: it starts at the base, learns, and changes nothing but its own."""

from __future__ import annotations

import pytest
import torch

from src.data import collate
from src.models.adapted import AdaptedModel
from src.models.methods import make_method
from src.models.methods.unfrozen import bias_names
from src.models.methods.used import used_names
from src.spec import MethodSpec, TaskKind
from src.training import train_pack
from tests.tiny import Recorder, start, tiny_base, tiny_cell, tiny_data

METHODS = {
    "full": MethodSpec("full"),
    "bitfit": MethodSpec("bitfit"),
    "adapter_h": MethodSpec("adapter_h", 3),
    "adapter_l": MethodSpec("adapter_l", 3),
    "prefix": MethodSpec("prefix", 4),
    "lora_prefix": MethodSpec("lora_prefix", 4),
    "random_subspace": MethodSpec("random_subspace", 30),
}
CASES: list[tuple[str, TaskKind]] = [("bert", "classification"), ("gpt2", "causal_lm"), ("t5", "seq2seq")]
RATES = {"full": 1e-2, "bitfit": 5e-2, "random_subspace": 3e-2}
# Not T5's, which has no biases.
CELLS = [(*case, name) for case in CASES for name in METHODS if (case[0], name) != ("t5", "bitfit")]


@pytest.mark.parametrize(("model_type", "kind", "name"), CELLS)
def test_each_learns_and_leaves_the_base_as_it_was(model_type: str, kind: TaskKind, name: str) -> None:
    base, data = tiny_base(model_type, kind), tiny_data(kind, train=8)
    before = {key: value.clone() for key, value in base.model.state_dict().items()}
    cell = tiny_cell(
        data, base, method=METHODS[name], lr=RATES.get(name, 2e-2), max_steps=20, eval_every=20, warmup=0.0
    )
    model, lanes = start(base, data, [cell])
    at_start = model.state(0)
    recorder = Recorder()
    train_pack(model, data, lanes, recorder)
    losses = recorder.losses[0]
    assert losses[-1] < losses[0] - 0.01
    assert all(not torch.equal(value, at_start[key]) for key, value in model.state(0).items())
    model.detach()
    after = base.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


@pytest.mark.parametrize("name", ["full", "bitfit", "adapter_h", "adapter_l", "random_subspace"])
def test_training_starts_exactly_at_the_base(name: str) -> None:
    base, data = tiny_base("bert"), tiny_data()
    batch = collate(data.train, torch.arange(6), data.pad_id)

    def logits(method: MethodSpec) -> torch.Tensor:
        cell = tiny_cell(data, base, targets="none", method=method, cache_frozen=False)
        model = AdaptedModel(base, [cell], num_labels=3, pad_id=data.pad_id)
        (output,) = model.forward([batch], training=False)
        model.detach()
        return output.logits

    assert torch.equal(logits(METHODS[name]), logits(MethodSpec("head")))


def test_names_of_what_is_trained() -> None:
    base, data = tiny_base("bert"), tiny_data()

    def trained(name: str) -> set[str]:
        cell = tiny_cell(data, base, method=METHODS[name])
        method = make_method(base, cell.spec, cell.allocation, dtype=torch.float64)
        assert method is not None
        return set(method.parameters())

    assert trained("full") == set(used_names(base))
    assert trained("bitfit") == set(bias_names(base))
    kept = {f"prefix.{layer}.{part}" for layer in range(2) for part in ("keys", "values")}
    assert trained("prefix") == trained("lora_prefix") == kept
    assert trained("random_subspace") == {"subspace.theta", "subspace.scale"}
    parts = [f"{of}.{kind}" for of in ("down", "up") for kind in ("weight", "bias")]
    after_mlp = {f"encoder.layer.{layer}.output.dense.{part}" for layer in range(2) for part in parts}
    assert trained("adapter_h") == after_mlp | {n.replace("output", "attention.output") for n in after_mlp}
    norms = {f"encoder.layer.{layer}.output.dense.norm.{kind}" for layer in range(2) for kind in ("weight", "bias")}
    assert trained("adapter_l") == after_mlp | norms


def test_lora_and_the_head_are_no_method_of_their_own() -> None:
    base, data = tiny_base("bert"), tiny_data()
    cell = tiny_cell(data, base)
    assert make_method(base, cell.spec, cell.allocation, dtype=torch.float64) is None


def test_a_prefix_leaves_loras_dropout_as_it_is() -> None:
    """LoRA sees the text alone, so that it draws the same masks with and without a prefix."""
    base, data = tiny_base("bert"), tiny_data()
    batch = collate(data.train, torch.arange(6), data.pad_id)

    def drawn(method: MethodSpec, dropout: float = 0.3) -> torch.Tensor:
        cell = tiny_cell(data, base, dropout=dropout, method=method)
        model = AdaptedModel(base, [cell], num_labels=3, pad_id=data.pad_id)
        model.forward([batch], training=True)
        model.detach()
        return model.roster.generators[0].get_state()

    assert torch.equal(drawn(METHODS["lora_prefix"]), drawn(MethodSpec("lora")))
    assert not torch.equal(drawn(MethodSpec("lora")), drawn(MethodSpec("lora"), dropout=0.0))
