"""Generation: equal to transformers' own on a merged model, and to what a model predicts that reads what it wrote."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache

from src.data import Batch, TaskData, TokenSplit, collate
from src.errors import ConfigError
from src.models.adapted import AdaptedModel
from src.models.generate import Prompt, check_generation, generate, group_prompts
from src.spec import MethodSpec, TaskKind, TaskSpec
from tests.tiny import shake, tiny_base, tiny_cell, tiny_data, token_ids

EOS = 4
MODELS: list[tuple[str, TaskKind]] = [
    ("gpt2", "causal_lm"), ("llama", "causal_lm"), ("qwen3", "causal_lm"), ("t5", "seq2seq"), ("bart", "seq2seq")
]  # fmt: skip
CELLS: list[dict[str, Any]] = [{"targets": "all", "rank": 3}, {"targets": "qv", "rank": 2, "seed": 1}]


class Numbers:
    """Stands for a tokenizer, so that a text shows every id."""

    eos_token_id = EOS

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return " ".join(map(str, ids))


def make(
    model_type: str, kind: TaskKind, cells: Sequence[dict[str, Any]] = CELLS, **settings: Any
) -> tuple[AdaptedModel, TaskSpec]:
    base, data = tiny_base(model_type, kind), tiny_data(kind)
    model = AdaptedModel(base, [tiny_cell(data, base, **cell) for cell in cells], num_labels=0, pad_id=1)
    shake(model)
    model.retain([0])
    return model, dataclasses.replace(data.spec, generate=True, max_new_tokens=9, **settings)


def prompts(lengths: Sequence[int] = (4, 9, 6, 5), seed: int = 0) -> list[Prompt]:
    return [Prompt(token_ids(1, length, seed + i)[0], ("5",)) for i, length in enumerate(lengths)]


def written(
    model: AdaptedModel, task: TaskSpec, given: Sequence[Prompt] | None = None, batch_size: int = 64
) -> list[list[int]]:
    """Ids that were generated, by prompt."""
    found = dict(generate(model, prompts() if given is None else given, task, Numbers(), batch_size=batch_size))
    return [[int(token) for token in found[place].generated.split()] for place in range(len(found))]


@pytest.mark.parametrize(("model_type", "kind"), MODELS)
@pytest.mark.parametrize(("beams", "length_penalty"), [(1, 1.0), (4, 0.9), (3, -2.0)])
def test_equals_transformers_on_a_merged_model_prompt_by_prompt(
    model_type: str, kind: TaskKind, beams: int, length_penalty: float
) -> None:
    model, task = make(model_type, kind, beams=beams, length_penalty=length_penalty)
    found = written(model, task)
    model.merge()
    search: dict[str, Any] = {"num_beams": beams, "length_penalty": length_penalty} if beams > 1 else {}
    for prompt, ids in zip(prompts(), found, strict=True):
        if kind == "seq2seq":  # the tiny T5 has more decoder layers than transformers' own cache would have
            search["past_key_values"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
        whole = model.base.model.generate(
            prompt.ids[None], attention_mask=torch.ones_like(prompt.ids[None]), do_sample=False, max_new_tokens=9,
            use_cache=True, eos_token_id=EOS, pad_token_id=1, **search,
        )  # fmt: skip
        expected = whole[0, 1 if kind == "seq2seq" else len(prompt.ids) :].tolist()
        assert ids == (expected[: expected.index(EOS)] if EOS in expected else expected)


@pytest.mark.parametrize(("model_type", "kind"), MODELS)
@pytest.mark.parametrize(("beams", "ngram"), [(1, 0), (1, 2), (4, 0), (4, 2)])
def test_neither_padding_nor_the_prompts_beside_it_change_what_is_written(
    model_type: str, kind: TaskKind, beams: int, ngram: int
) -> None:
    model, task = make(model_type, kind, beams=beams, no_repeat_ngram=ngram)
    found = written(model, task)
    assert found == written(model, task, batch_size=1)
    assert found == [written(model, task, [prompt])[0] for prompt in prompts()]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_lane_writes_in_company_what_it_writes_alone(beams: int) -> None:
    model, task = make("llama", "causal_lm", beams=beams)
    together = []
    for lane in (0, 1):
        model.retain([lane])
        together.append(written(model, task))
    assert together[0] != together[1]
    states = [model.state(lane) for lane in (0, 1)]
    for lane, cell in enumerate(CELLS):
        alone, _ = make("llama", "causal_lm", [cell])
        alone.load_state(0, states[lane])
        assert written(alone, task) == together[lane]


@pytest.mark.parametrize(("model_type", "kind"), MODELS)
def test_texts_that_were_scored_before_do_not_change_what_is_written(model_type: str, kind: TaskKind) -> None:
    """Of several lengths, so that they stand end to end where the model can, and of both lanes."""
    model, task = make(model_type, kind)
    before = written(model, task)
    model.retain([0, 1])
    batch = collate(tiny_data(kind).test, torch.arange(8), 1)
    model.forward([batch, batch], training=False)
    model.retain([0])
    assert written(model, task) == before


def test_several_lanes_at_once_are_a_mistake() -> None:
    model, task = make("gpt2", "causal_lm")
    model.retain([0, 1])
    with pytest.raises(RuntimeError, match=r"2 take part; call retain"):
        written(model, task)


METHODS = [
    MethodSpec("lora"), MethodSpec("full"), MethodSpec("bitfit"), MethodSpec("adapter_h", 2),
    MethodSpec("adapter_l", 2), MethodSpec("prefix", 3), MethodSpec("lora_prefix", 3), MethodSpec("random_subspace", 8),
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize(("model_type", "kind"), [MODELS[0], ("qwen2", "causal_lm"), MODELS[4]])
def test_every_method_writes_what_it_predicts_in_training(model_type: str, kind: TaskKind, method: MethodSpec) -> None:
    """Read with what it wrote as its completion, the model predicts each token of it: greedy search, step by step."""
    plain = method.name not in {"lora", "lora_prefix"}
    lora = {"targets": "none", "rank": None} if plain else {"targets": "all"}
    model, task = make(model_type, kind, [{**lora, "method": method}])
    found = written(model, task)
    assert any(found)
    for prompt, ids in zip(prompts(), found, strict=True):
        (output,) = model.forward([_as_read(prompt, ids, kind)], training=False)
        told = [*ids, EOS][: task.max_new_tokens]
        assert output.logits.argmax(dim=-1).tolist()[: len(told)] == told


def _as_read(prompt: Prompt, completion: Sequence[int], kind: TaskKind) -> Batch:
    ids = prompt.ids[None]
    answer = torch.tensor([[*completion, EOS]])
    if kind == "seq2seq":
        return Batch(ids, torch.ones_like(ids), answer, decodes=True)
    whole = torch.cat([ids, answer], dim=1)
    labels = torch.cat([torch.full_like(ids, -100), answer], dim=1)
    return Batch(whole, torch.ones_like(whole), labels)


@pytest.mark.parametrize("beams", [1, 4])
def test_no_ngram_comes_twice(beams: int) -> None:
    model, task = make("gpt2", "causal_lm", beams=beams)
    pairs = [list(itertools.pairwise(ids)) for ids in written(model, task)]
    assert any(len(set(found)) < len(found) for found in pairs)
    for ids in written(model, dataclasses.replace(task, no_repeat_ngram=2)):
        found = list(itertools.pairwise(ids))
        assert len(set(found)) == len(found)


def test_ngrams_of_the_prompt_may_be_repeated() -> None:
    model, task = make("gpt2", "causal_lm")
    given = prompts([40] * 12)
    free, strict = (written(model, dataclasses.replace(task, no_repeat_ngram=size), given) for size in (0, 1))
    assert [ids[:1] for ids in free] == [ids[:1] for ids in strict]
    assert any(ids[0] in prompt.ids.tolist() for ids, prompt in zip(strict, given, strict=True))


def test_settings_in_the_models_files_do_not_count_and_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    model, task = make("gpt2", "causal_lm")
    found = written(model, task)
    config: Any = model.base.model.generation_config
    config.update(
        do_sample=True, temperature=9.0, top_k=3, repetition_penalty=5.0, min_new_tokens=7, forced_bos_token_id=7
    )
    before, state = config.to_dict(), torch.get_rng_state()
    assert written(model, task) == found
    assert model.base.model.generation_config is config
    assert config.to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("model_type", "kind"), [MODELS[1], MODELS[3]])
def test_earlier_tokens_are_cached_while_writing_and_not_in_training(model_type: str, kind: TaskKind) -> None:
    model, task = make(model_type, kind)
    seen: list[int] = []
    layer = next(p for p in model.base.projections if p.letter == "q" and p.stack != "encoder")
    hook = model.base.backbone.get_submodule(layer.module).register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].shape[1])
    )
    (ids,) = written(model, task, prompts([6]))
    hook.remove()
    assert seen == [1 if kind == "seq2seq" else 6] + [1] * (min(len(ids) + 1, 9) - 1)
    assert model.base.model.config.use_cache is False


def test_examples_with_one_prompt_are_one_prompt_with_all_references() -> None:
    ids = torch.tensor([7, 8, 50, 7, 9, 51, 7, 8, 52, 7, 8, 50], dtype=torch.int32)
    split = TokenSplit(ids, torch.tensor([0, 3, 6, 9, 12]), completion_starts=torch.tensor([2, 2, 2, 2]))
    found = group_prompts(split, [" one", " two", "three ", "one"])
    assert [(prompt.ids.tolist(), prompt.references) for prompt in found] == [
        ([7, 8], ("one", "three")), ([7, 9], ("two",))
    ]  # fmt: skip
    encoder = dataclasses.replace(split, completion_starts=None)
    assert [len(prompt.ids) for prompt in group_prompts(encoder, ["a", "b", "c", "d"])] == [3, 3, 3]


def test_what_a_model_has_no_room_for_is_refused() -> None:
    data: TaskData = tiny_data("causal_lm")
    task = dataclasses.replace(data.spec, generate=True, max_length=50, max_new_tokens=16)
    check_generation(tiny_base("gpt2", "causal_lm"), task)
    with pytest.raises(ConfigError, match=r"max_new_tokens.*at most 16.*task.max_length \(50\)"):
        check_generation(tiny_base("gpt2", "causal_lm"), dataclasses.replace(task, max_new_tokens=17))
    check_generation(tiny_base("bart", "seq2seq"), dataclasses.replace(task, max_new_tokens=65))
    with pytest.raises(ConfigError, match="at most 65"):
        check_generation(tiny_base("bart", "seq2seq"), dataclasses.replace(task, max_new_tokens=66))
    check_generation(tiny_base("t5", "seq2seq"), dataclasses.replace(task, max_new_tokens=900))
    check_generation(tiny_base("gpt2"), tiny_data().spec)
