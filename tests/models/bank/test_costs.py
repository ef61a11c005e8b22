"""Nothing is measured on wrong answers; sizes are those of what lies in memory and on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GPT2Config, T5Config, ViTConfig

from src.errors import HarnessError
from src.models.bank import AdapterBank
from src.models.bank.agreement import check_answers, mixture
from src.models.bank.costs import BASE, IN_TURN, MIXED, base_bytes, checkpoint_bytes, time_passes, time_switches
from src.models.bank.linear import BankLinear, Names, Pool
from src.models.loading import freeze
from src.models.sample_inputs import sample_inputs
from tests.models.bank.dense import random_adapters
from tests.tiny import tiny_base
from tests.tiny_architectures import CASES
from tests.tiny_files import save_model

_SMALL: dict[str, Any] = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "vocab_size": 100}
_PICTURES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 8}
OTHERS: dict[str, Any] = {
    "seq2seq": (AutoModelForSeq2SeqLM, T5Config(**_SMALL, decoder_start_token_id=0)),
    "classification": (AutoModel, ViTConfig(**_PICTURES, patch_size=4, intermediate_size=24)),
}


def filled(base: Any) -> AdapterBank:
    bank = AdapterBank(base)
    for seed, letters in enumerate(("q", "qv", "qkvo")):
        bank.add(letters, random_adapters(base, letters, 1 + seed, seed, dora=seed == 1))
    return bank


@pytest.mark.parametrize("kind", OTHERS)
def test_encoder_decoders_and_models_of_pictures_answer_alike(kind: Any) -> None:
    auto, config = OTHERS[kind]
    torch.manual_seed(0)
    bank = filled(freeze(auto.from_config(config).double().eval(), kind, "tiny"))
    inputs = sample_inputs(bank.base, 4, 6)
    agreement = check_answers(bank, inputs)
    assert max(agreement.merged, agreement.mixed) < 1e-12
    answers = bank.forward(inputs, ["q", None, "qkvo", "qv"])
    for row, name in enumerate(("q", None, "qkvo", "qv")):
        bank.use(name)
        torch.testing.assert_close(answers[row], bank.forward(inputs)[row], rtol=1e-10, atol=1e-10)
    assert bank.forward(inputs)[0].shape == ((6, 100) if kind == "seq2seq" else (5, 16))


@pytest.mark.parametrize("damage", [2.0, torch.nan])
def test_answers_that_differ_are_not_timed(damage: float, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = filled(tiny_base("bert", dtype=torch.float32))
    inputs = sample_inputs(bank.base, 4, 6)
    assert check_answers(bank, inputs).mixed < 1e-4
    layer = bank.base.backbone.get_submodule("encoder.layer.0.attention.self.query")
    whole = type(layer).merge
    monkeypatch.setattr(type(layer), "merge", lambda self, name: (whole(self, name), self.weight.mul_(damage)))
    with pytest.raises(HarnessError, match="Not timed, because answers differ that should be equal: merged"):
        check_answers(bank, inputs)


def test_every_adapter_is_checked_also_where_the_batch_has_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged and mixed: only the last of three adapters is damaged, and a batch has two rows."""
    bank = filled(tiny_base("bert"))
    inputs = sample_inputs(bank.base, 2, 6)
    assert max(dataclasses.astuple(check_answers(bank, inputs))) < 1e-9
    layer = bank.base.backbone.get_submodule("encoder.layer.0.attention.self.query")
    merge, add_terms = type(layer).merge, Pool.add_terms

    def merge_wrong(self: BankLinear, name: str) -> None:
        merge(self, name)
        self.weight.mul_(2.0 if name == "qkvo" else 1.0)

    def mix_wrong(self: Pool, y: Tensor, x: Tensor, names: Names) -> None:
        add_terms(self, y, x, names)
        y += float(len(names) > 1 and "qkvo" in names)

    for owner, method, wrong in ((BankLinear, "merge", merge_wrong), (Pool, "add_terms", mix_wrong)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, wrong)
            with pytest.raises(HarnessError, match="answers differ that should be equal"):
                check_answers(bank, inputs)


def test_an_answer_of_nan_is_not_timed_and_the_precision_is_told() -> None:
    bank = filled(tiny_base("bert", dtype=torch.float32))
    adapters = random_adapters(bank.base, "v", 2, 7)
    with torch.no_grad():
        next(iter(adapters.values())).b[0, 0] = torch.nan
    bank.add("broken", adapters)
    with pytest.raises(HarnessError, match=r"unmerged by nan, .* where 1e-04 is allowed in float32\."):
        check_answers(bank, sample_inputs(bank.base, 2, 6))


def test_where_rows_cannot_be_told_apart_nothing_is_mixed() -> None:
    bank = filled(freeze(CASES["deberta-v2"].build(), "classification", "tiny"))
    inputs = sample_inputs(bank.base, 4, 6)
    agreement = check_answers(bank, inputs)
    assert agreement.mixed is None and agreement.merged < 1e-10
    variants = [timed.variant for timed in time_passes(bank, inputs, 5)]
    assert MIXED not in variants and variants[-1] == IN_TURN and len(variants) == 4


def test_every_variant_is_timed_in_every_round_and_the_base_stays() -> None:
    bank = filled(tiny_base("bert", dtype=torch.float32))
    before = {
        name: tensor.clone() for name, tensor in tiny_base("bert", dtype=torch.float32).model.state_dict().items()
    }
    passes = time_passes(bank, sample_inputs(bank.base, 4, 6), 5)
    assert len({timed.variant for timed in passes}) == 5 and passes[0].variant == BASE
    assert all(len(timed.seconds) == 5 and min(timed.seconds) > 0 for timed in passes)
    assert set(passes[0].slowdowns) == {0.0}
    assert min(dataclasses.astuple(time_switches(bank, 2))) > 0
    assert bank.active is None and bank.merged is None
    bank.close()
    assert all(torch.equal(tensor, before[name]) for name, tensor in bank.base.model.state_dict().items())


def test_rows_take_all_adapters_in_turn() -> None:
    bank = filled(tiny_base("bert"))
    assert mixture(bank.names, 5) == ("q", "qv", "qkvo", "q", "qv")
    assert mixture(bank.names, 2) == ("q", "qv")


def test_tied_weights_count_once() -> None:
    config = GPT2Config(vocab_size=100, n_embd=16, n_layer=1, n_head=4, n_positions=66)
    base = freeze(AutoModelForCausalLM.from_config(config), "causal_lm", "tiny")
    buffers = sum(buffer.nbytes for buffer in base.model.buffers())
    assert base_bytes(base) == 4 * sum(p.numel() for p in base.model.parameters()) + buffers


def test_the_files_of_a_checkpoint(tmp_path: Path) -> None:
    folder, base = save_model(tmp_path / "model"), tiny_base("bert")
    size = (folder / "model.safetensors").stat().st_size
    assert checkpoint_bytes(dataclasses.replace(base, source=str(folder))) == size
    assert checkpoint_bytes(dataclasses.replace(base, source="nobody/nothing")) is None
