"""Encoder-decoder models: transformers' own loss, padding, company, dropout at each stack's own lengths."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, Gemma2Config

from src.adapters.lora_linear import LoraLinear
from src.data import IGNORED, Batch, collate
from src.errors import ConfigError
from src.models.adapted import AdaptedModel
from src.models.loading import freeze, outline
from src.models.losses import loss_sum, num_targets
from src.models.score import score
from src.spec import ModelSpec
from src.training import train_pack
from tests.tiny import SEQ2SEQ, Recorder, shake, start, tiny, tiny_base, tiny_cell, tiny_data
from tests.tiny_files import save_model

MIXED: list[dict[str, Any]] = [
    {"targets": "qv", "rank": 1, "alpha": 16.0, "dropout": 0.3},
    {"targets": "all", "rank": 6, "alpha": 4.0, "dropout": 0.2, "seed": 1, "stacks": "decoder+cross"},
    {"targets": "kv", "rank": 3, "lr": 2e-2, "dropout": 0.4, "seed": 2, "stacks": "cross"},
    {"targets": "all", "rank": 2, "lr": 5e-3, "stacks": "encoder", "label_smoothing": 0.1, "seed": 1},
    {"targets": "qo", "rank": 2, "dropout": 0.2, "dora": True, "stacks": "encoder+cross", "seed": 2},
    {"targets": "qkvo", "rank": None, "budget": 900, "clip": 0.1, "dropout": 0.1, "layers": "1-1", "seed": 3},
]
LOOP = {"epochs": 6, "max_steps": 15, "accumulation": 2, "eval_every": 6}


def adapted(model_type: str, cells: list[dict[str, Any]]) -> AdaptedModel:
    base, data = tiny_base(model_type, "seq2seq"), tiny_data("seq2seq")
    model = AdaptedModel(base, [tiny_cell(data, base, **cell) for cell in cells], num_labels=0, pad_id=1)
    shake(model)
    return model


def train(model_type: str, cells: list[dict[str, Any]]) -> list[Any]:
    """Train cells as one pack; (parameters, step losses, validations) of each."""
    base, data = tiny_base(model_type, "seq2seq"), tiny_data("seq2seq")
    model, lanes = start(base, data, [tiny_cell(data, base, **LOOP, **cell) for cell in cells])
    recorder = Recorder()
    train_pack(model, data, lanes, recorder)
    return [
        (model.state(lane.index), recorder.losses[lane.index], [e.validation for e in lane.history]) for lane in lanes
    ]


@pytest.mark.parametrize("model_type", SEQ2SEQ)
def test_loss_and_gradients_are_those_of_transformers_itself(model_type: str) -> None:
    """Whose model is given the labels, and merged weights in place of adapters."""
    model = adapted(model_type, [{"targets": "all", "rank": 3}])
    batch = collate(tiny_data("seq2seq").train, torch.arange(6), 1)
    (output,) = model.forward([batch], training=False)
    mean = loss_sum("seq2seq", output) / num_targets("seq2seq", batch)
    merged = tiny(model_type, seq2seq=True)
    with torch.no_grad():
        for p in model.setups[0].projections:
            weight = merged.get_submodule(model.base.prefix + p.module).weight
            weight += model.adapters[0][p.key].delta()
    theirs = merged(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
    torch.testing.assert_close(mean, theirs.loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(output.logits, theirs.logits[batch.labels != IGNORED], rtol=1e-10, atol=1e-10)
    mean.backward()
    theirs.loss.backward()
    for p in model.setups[0].projections:
        adapter = model.adapters[0][p.key]
        dense = merged.get_submodule(model.base.prefix + p.module).weight.grad
        torch.testing.assert_close(adapter.b.grad, adapter.scale * dense @ adapter.a.T, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("model_type", SEQ2SEQ)
def test_packed_and_solo_agree_with_mixed_ranks_stacks_and_dropout(model_type: str) -> None:
    packed = train(model_type, MIXED)
    for cell, together in zip(MIXED, packed, strict=True):
        (alone,) = train(model_type, [cell])
        assert len(alone[1]) == LOOP["max_steps"]
        torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model_type", SEQ2SEQ)
def test_what_is_padded_for_company_changes_no_lane(model_type: str) -> None:
    """One lane's inputs are padded and the other lane's targets, also where dropout masks are drawn."""
    data = tiny_data("seq2seq").train
    assert data.target_offsets is not None
    longer_input = (data.lengths - data.target_offsets.diff()).argsort()
    first, second = collate(data, longer_input[:4], 1), collate(data, longer_input[-4:], 1)
    assert first.length < second.length
    assert first.target_length > second.target_length
    cells = [{"targets": "all", "rank": 2, "dropout": 0.5}, {"targets": "all", "rank": 2, "dropout": 0.5, "seed": 1}]
    together = adapted(model_type, cells).forward([first, second], training=True)
    for lane, batch in enumerate((first, second)):
        alone = adapted(model_type, cells)
        alone.retain([lane])
        (output,) = alone.forward([batch], training=True)
        torch.testing.assert_close(together[lane].logits, output.logits, rtol=1e-10, atol=1e-10)
        assert torch.equal(together[lane].targets, output.targets)


def test_masks_are_drawn_at_the_length_of_the_rows_that_a_matrix_sees() -> None:
    """W_k and W_v of cross-attention see the encoder's, all else in the decoder its own."""
    model = adapted("t5", [{"targets": "all", "rank": 1, "dropout": 0.5}])
    seen: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(_layer: object, inputs: tuple[torch.Tensor]) -> None:
            seen[name] = inputs[0].shape[1]

        return hook

    for name, layer in model.base.backbone.named_modules():
        if isinstance(layer, LoraLinear):
            layer.register_forward_pre_hook(note(name))
    batch = collate(tiny_data("seq2seq").train, torch.arange(4), 1)
    assert batch.length != batch.target_length
    model.forward([batch], training=True)
    for p in model.base.projections:
        assert seen[p.module] == (batch.target_length if p.decodes else batch.length), p.module


def test_each_example_has_its_summed_loss_and_tokens() -> None:
    model, data = adapted("bart", [{"targets": "qv"}]), tiny_data("seq2seq")
    (result,) = score(model, data.test, data, "seq2seq", [torch.arange(10, 20), torch.arange(10)])
    assert data.test.target_offsets is not None
    assert result.examples["tokens"].tolist() == data.test.target_offsets.diff().tolist()
    total = result.examples["loss"].sum() / result.examples["tokens"].sum()
    assert float(total) == pytest.approx(result.metrics["loss"])
    batch = collate(data.test, torch.tensor([13]), 1)
    with torch.no_grad():
        (alone,) = model.forward([batch], training=False)
    by_hand = F.cross_entropy(alone.logits, batch.labels[0], reduction="sum")
    assert float(result.examples["loss"][13]) == pytest.approx(float(by_hand))
    assert set(result.metrics) == {"loss", "perplexity", "token_accuracy"}


def test_tokens_are_counted_on_both_sides() -> None:
    ids = torch.tensor([[5, 6, 1], [5, 1, 1]])
    batch = Batch(ids, (ids != 1).long(), torch.tensor([[7, 4], [4, IGNORED]]), decodes=True)
    assert (batch.length, batch.target_length, batch.num_tokens) == (3, 2, 6)
    assert num_targets("seq2seq", batch) == 3
    assert torch.equal(batch.output_mask, torch.tensor([[1, 1], [1, 0]]))


@pytest.mark.parametrize("model_type", SEQ2SEQ)
def test_classification_is_from_the_encoder_alone(model_type: str) -> None:
    base, data = tiny_base(model_type), tiny_data()
    assert {p.stack for p in base.projections} == {"encoder"}
    model, lanes = start(base, data, [tiny_cell(data, base, targets="all", max_steps=3)])
    batch = collate(data.train, torch.arange(5), 1)
    plain = tiny(model_type).get_encoder()(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    weights = batch.attention_mask[..., None].double()
    pooled = (plain.last_hidden_state * weights).sum(dim=1) / weights.sum(dim=1)
    (output,) = model.forward([batch], training=False)
    head = model.heads[0]
    torch.testing.assert_close(output.logits, F.linear(pooled, head["head.weight"], head["head.bias"]))
    train_pack(model, data, lanes, Recorder())
    assert all(value.any() for value in lanes[0].best_state.values())


def test_gemma_2s_capped_logits_are_the_models_own() -> None:
    config = Gemma2Config(
        vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=24, head_dim=4, final_logit_softcapping=0.5, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(config).double().eval()
    ids = torch.randint(5, 100, (2, 6))
    base = freeze(plain, "causal_lm", "tiny")
    assert base.output is not None
    ours = base.output(base.backbone(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(ours, plain(input_ids=ids).logits)


@pytest.mark.parametrize("model_type", ["gpt2", "bert"])
def test_a_model_of_one_stack_cannot_do_seq2seq(model_type: str, tmp_path: Path) -> None:
    save_model(tmp_path, model_type)
    with pytest.raises(ConfigError, match=rf"kind is 'seq2seq'; allowed: .* with the {model_type} model .*t5-small"):
        outline(ModelSpec(str(tmp_path)), "seq2seq", tmp_path)


@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_an_encoder_decoder_cannot_do_causal_lm(model_type: str, tmp_path: Path) -> None:
    save_model(tmp_path, model_type, seq2seq=True)
    with pytest.raises(ConfigError, match=r"task.kind is 'causal_lm'; allowed: seq2seq, .* an encoder for the prompt"):
        outline(ModelSpec(str(tmp_path)), "causal_lm", tmp_path)


def test_a_decoder_without_a_first_token_is_refused(tmp_path: Path) -> None:
    config = copy.deepcopy(SEQ2SEQ["t5"])
    config.decoder_start_token_id = None
    config.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"model.path is .* sets decoder_start_token_id"):
        outline(ModelSpec(str(tmp_path)), "seq2seq", tmp_path)


def test_named_projections_need_their_stack() -> None:
    named = {"q": "decoder.block.{i}.layer.0.SelfAttention.q"}
    with pytest.raises(ConfigError, match=r"model.projections is 'q'; allowed: .* encoder/q, decoder/q, cross/q"):
        freeze(tiny("t5", seq2seq=True), "seq2seq", "tiny", named)
    base = freeze(tiny("t5", seq2seq=True), "seq2seq", "tiny", {f"decoder/{letter}": m for letter, m in named.items()})
    assert [p.stack for p in base.projections] == ["decoder"] * 3
