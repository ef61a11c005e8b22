"""What a lane writes: completions of prompts, by transformers' generate over the adapted model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
)

from src.data import TokenSplit
from src.errors import ConfigError
from src.models.adapted import AdaptedModel
from src.models.loading import Base, max_positions
from src.models.methods import with_weights
from src.spec import TaskSpec


@dataclass(frozen=True)
class Prompt:
    """An input, and all completions that the data have for it.

    Attributes:
        ids: int64 [L]; everything before the completion (causal_lm), or the encoder's input (seq2seq).
        references: stripped texts, without repetitions, one at least.
    """

    ids: Tensor
    references: tuple[str, ...]


@dataclass(frozen=True)
class Generation:
    """A line of generations.jsonl.

    Attributes:
        prompt: as the model read it, decoded without special tokens.
        references: see `Prompt`.
        generated: stripped text.
    """

    prompt: str
    references: tuple[str, ...]
    generated: str


def group_prompts(split: TokenSplit, completions: Sequence[str]) -> list[Prompt]:
    """One prompt for all examples that share it, in source order: E2E has several references for each input.

    Args:
        completions: of each example, as it was written.
    """
    grouped: dict[tuple[int, ...], dict[str, None]] = {}
    lengths = split.lengths if split.completion_starts is None else split.completion_starts
    for start, length, text in zip(split.offsets[:-1].tolist(), lengths.tolist(), completions, strict=True):
        ids = tuple(split.input_ids[start : start + length].tolist())
        grouped.setdefault(ids, {})[text.strip()] = None
    return [Prompt(torch.tensor(ids), tuple(texts)) for ids, texts in grouped.items()]


def check_generation(base: Base, task: TaskSpec) -> None:
    """Raises:
    ConfigError: the model cannot write, or has too few positions for a prompt and what follows it.
    """
    model: Any = base.model
    if not task.generate:
        return
    if not model.can_generate():
        raise ConfigError("task.generate", True, f"false for a {model.config.model_type} model, which cannot write")
    limit = max_positions(base)
    if limit is None:
        return
    apart = bool(model.config.is_encoder_decoder)
    most = limit - (1 if apart else task.max_length)
    if task.max_new_tokens > most:
        what = "" if apart else f", less task.max_length ({task.max_length})"
        raise ConfigError("task.max_new_tokens", task.max_new_tokens, f"at most {most}: the model's positions{what}")


def generate(
    model: AdaptedModel, prompts: Sequence[Prompt], task: TaskSpec, tokenizer: Any, *, batch_size: int
) -> Iterator[tuple[int, Generation]]:
    """Complete each prompt with the one lane that takes part; nothing is drawn at random.

    Greedy for task.beams 1, else beam search, in which a completion's score is its log probability over its length to
    the power of task.length_penalty. No n-gram of task.no_repeat_ngram tokens comes twice in a completion; those of the
    prompt may be repeated, as in the paper's released code (examples/NLG/src/gpt2_beam.py), whereas transformers' own
    setting counts the prompt and its padding. Settings that came with the model's files do not count. The adapters
    stay attached.

    Args:
        batch_size: sequences that are computed at once, so batch_size / beams prompts.

    Yields:
        A prompt's place in `prompts`, and its completion; shorter prompts first.

    Raises:
        RuntimeError: not exactly one lane takes part.
    """
    if len(model.lanes) != 1:
        raise RuntimeError(f"one lane writes at a time, {len(model.lanes)} take part; call retain([lane]) first")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    size = max(1, batch_size // task.beams)
    config = _settings(model, task, tokenizer.eos_token_id)
    with torch.no_grad():
        weights = model.method.weights()
    for at in range(0, len(order), size):
        places = order[at : at + size]
        work = partial(_continue, model, [prompts[i].ids for i in places], config, task.no_repeat_ngram)
        written = with_weights(model.base.model, weights, work)
        for i, ids in zip(places, written, strict=True):
            prompt = _decode(tokenizer, prompts[i].ids.tolist())
            yield i, Generation(prompt, prompts[i].references, _decode(tokenizer, ids).strip())


class _NoRepeat(LogitsProcessor):
    """Forbids the tokens that would repeat an n-gram of what was written after position `start`."""

    def __init__(self, size: int, start: int) -> None:
        self.rule, self.start = NoRepeatNGramLogitsProcessor(size), start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forbidden: Tensor = self.rule(input_ids[:, self.start :], scores)
        return forbidden


@torch.inference_mode()
def _continue(
    model: AdaptedModel, prompts: Sequence[Tensor], config: GenerationConfig, no_repeat_ngram: int
) -> list[list[int]]:
    """Ids that follow each prompt, without the end-of-sequence token and what comes after it."""
    base: Any = model.base.model
    apart = bool(base.config.is_encoder_decoder)
    inputs, mask = pad(prompts, model.pad_id, left=not apart)
    start = 1 if apart else inputs.shape[1]
    # transformers would make a cache of as many layers as the encoder has, too few for a decoder with more.
    cache = {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())} if apart else {}
    rules = LogitsProcessorList([_NoRepeat(no_repeat_ngram, start)] if no_repeat_ngram else [])
    with _writing(model, config):
        sequences = base.generate(
            input_ids=inputs.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            logits_processor=rules,
            **cache,
        )
    return [_until(ids, config.eos_token_id) for ids in sequences[:, start:].tolist()]


def pad(prompts: Sequence[Tensor], pad_id: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 [b, L]; on the left, so that what a decoder writes follows its prompt at once."""
    length = max(len(ids) for ids in prompts)
    inputs = torch.full((len(prompts), length), pad_id)
    mask = torch.zeros_like(inputs)
    for row, ids in enumerate(prompts):
        place = slice(length - len(ids), None) if left else slice(len(ids))
        inputs[row, place], mask[row, place] = ids, 1
    return inputs, mask


def _settings(model: AdaptedModel, task: TaskSpec, eos_id: int) -> GenerationConfig:
    base: Any = model.base.model
    # Where one hypothesis is kept there is none to compare by length.
    beams = {"num_beams": task.beams, "length_penalty": task.length_penalty} if task.beams > 1 else {}
    start = base.config.decoder_start_token_id if base.config.is_encoder_decoder else None
    return GenerationConfig(
        do_sample=False,
        use_cache=True,
        max_new_tokens=task.max_new_tokens,
        pad_token_id=model.pad_id,
        eos_token_id=eos_id,
        decoder_start_token_id=start,
        **beams,
    )


@contextlib.contextmanager
def _writing(model: AdaptedModel, config: GenerationConfig) -> Iterator[None]:
    """The loaded model as its lane's method has it, without dropout, and with no generation settings but these.

    Sampling, penalties and forced tokens that came with a model's files would else fill what `config` leaves open.
    """
    base: Any = model.base.model
    kept, base.generation_config = base.generation_config, config
    model.roster.training = False
    hook = base.register_forward_pre_hook(
        lambda _module, args, inputs: (args, model.method.inputs(inputs)), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()
        base.generation_config = kept


def _until(ids: list[int], eos_id: int) -> list[int]:
    return ids[: ids.index(eos_id)] if eos_id in ids else ids


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
