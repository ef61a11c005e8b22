"""Prompts and completions to token ids: one sequence for causal_lm, two for seq2seq; only a prompt's body is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from src.data.rows import Rows
from src.data.token_cache import Counts, Tensors, flat
from src.errors import HarnessError
from src.spec import TaskSpec

CHUNK = 1000


def causal_tokens(rows: Rows, spec: TaskSpec, tokenizer: Any) -> tuple[Tensors, Counts]:
    """bos (where the tokenizer adds one), prompt, cue, completion, eos.

    Returns:
        input_ids, offsets, rows and completion_starts of TokenSplit; the counts ``truncated`` and ``too_long``.

    Raises:
        HarnessError: no end-of-sequence token, or no completion fits.
    """
    end = _eos(tokenizer, spec)
    begin = _bos(tokenizer)
    cue = _plain(tokenizer, [rows.cue])[0] if rows.cue else []
    prompts = _plain(tokenizer, rows.texts)
    completions = _plain(tokenizer, [str(target) for target in rows.targets])
    examples: list[list[int]] = []
    starts: list[int] = []
    kept: list[int] = []
    truncated = 0
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        room = spec.max_length - len(begin) - len(cue) - len(completion) - 1
        if room < 1:
            continue
        truncated += len(prompt) > room
        context = begin + prompt[:room] + cue
        examples.append([*context, *completion, end])
        starts.append(len(context))
        kept.append(row)
    if not examples:
        shortest = min(map(len, completions)) + len(begin) + len(cue) + 2
        raise HarnessError(
            f"No completion of {spec.path} fits in task.max_length = {spec.max_length} tokens beside one token of its "
            f"prompt; the shortest needs {shortest}. Raise task.max_length."
        )
    tensors = flat(examples) | {"completion_starts": torch.tensor(starts), "rows": torch.tensor(kept)}
    return tensors, {"truncated": truncated, "too_long": len(rows) - len(examples)}


def seq2seq_tokens(rows: Rows, spec: TaskSpec, tokenizer: Any) -> tuple[Tensors, Counts]:
    """Encoder input: prompt and cue; decoder target: completion; each within the tokenizer's own special tokens.

    A target ends with eos also where the tokenizer adds none. Each may have task.max_length tokens.

    Returns:
        input_ids, offsets, rows, target_ids and target_offsets of TokenSplit; the counts ``truncated`` and
        ``too_long``.

    Raises:
        HarnessError: no end-of-sequence token, no room for a prompt, or no completion fits.
    """
    begin, end = _around(tokenizer)
    end = (_plain(tokenizer, [rows.cue])[0] if rows.cue else []) + end
    room = spec.max_length - len(begin) - len(end)
    if room < 1:
        raise HarnessError(
            f"task.max_length = {spec.max_length} leaves no room for a prompt: the text after the last column "
            f"of task.prompt and the tokenizer's special tokens take {len(begin) + len(end)}. Raise task.max_length."
        )
    targets = _targets(rows, spec, tokenizer)
    kept = [i for i, target in enumerate(targets) if len(target) <= spec.max_length]
    if not kept:
        raise HarnessError(
            f"No completion of {spec.path} fits in task.max_length = {spec.max_length} tokens; the shortest needs "
            f"{min(map(len, targets))}. Raise task.max_length."
        )
    prompts = _plain(tokenizer, [rows.texts[i] for i in kept])
    tensors = flat([begin + prompt[:room] + end for prompt in prompts])
    told = flat([targets[i] for i in kept])
    tensors |= {"target_ids": told["input_ids"], "target_offsets": told["offsets"]}
    tensors["rows"] = torch.tensor(kept)
    truncated = sum(len(prompt) > room for prompt in prompts)
    return tensors, {"truncated": truncated, "too_long": len(rows) - len(kept)}


def _targets(rows: Rows, spec: TaskSpec, tokenizer: Any) -> list[list[int]]:
    """As the tokenizer writes texts that the decoder is to say (`text_target`), with eos at the end."""
    end = _eos(tokenizer, spec)
    ids: list[list[int]] = []
    for at in range(0, len(rows), CHUNK):
        texts = [str(target) for target in rows.targets[at : at + CHUNK]]
        batch = tokenizer(
            text_target=texts, truncation=False, padding=False, return_attention_mask=False, verbose=False
        )
        ids += batch["input_ids"]
    return [target if target[-1:] == [end] else [*target, end] for target in ids]


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    whole = tokenizer("a", return_special_tokens_mask=True, verbose=False)
    ids, special = whole["input_ids"], whole["special_tokens_mask"]
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return ids[:first], ids[last:]


def _plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids without special tokens and without truncation."""
    ids: list[list[int]] = []
    for at in range(0, len(texts), CHUNK):
        batch = tokenizer(
            list(texts[at : at + CHUNK]), add_special_tokens=False, truncation=False, padding=False,
            return_attention_mask=False, return_token_type_ids=False, verbose=False,
        )  # fmt: skip
        ids += batch["input_ids"]
    return ids


def _eos(tokenizer: Any, spec: TaskSpec) -> int:
    if tokenizer.eos_token_id is None:
        models = "google-t5/t5-small" if spec.kind == "seq2seq" else "asset:smollm2 or gpt2"
        raise HarnessError(
            f"The tokenizer {type(tokenizer).__name__} has no end-of-sequence token, which a {spec.kind} task needs: "
            f"use a model that generates text, such as {models}."
        )
    return tokenizer.eos_token_id


def _bos(tokenizer: Any) -> list[int]:
    """The begin-of-sequence token, where the tokenizer itself puts one in front."""
    alone = tokenizer("", verbose=False)["input_ids"]
    return [tokenizer.bos_token_id] if alone and alone[0] == tokenizer.bos_token_id else []
