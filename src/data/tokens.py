"""Rows to token ids, with a cache keyed by text, tokenizer and length: a second start does not tokenise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import Tensor

from src.data.rows import Rows
from src.data.token_cache import Counts, Tensors, read_tokens, write_tokens
from src.errors import HarnessError
from src.spec import TaskSpec

FORMAT = 1  # raise when the way of tokenising below changes
CHUNK = 1000


@dataclass(frozen=True)
class TokenSplit:
    """The token ids of n examples, end to end.

    Attributes:
        input_ids: int32 [num_tokens].
        offsets: int64 [n + 1]; example i is input_ids[offsets[i] : offsets[i + 1]].
        labels: class ids int64 [n], numbers float32 [n], or None for causal_lm.
        completion_starts: int64 [n], position in the example where the completion begins; None but for causal_lm.
        pair_starts: int64 [n], position where the second text begins, for tokenizers that tell the two apart by
            token_type_ids; else None.
    """

    input_ids: Tensor
    offsets: Tensor
    labels: Tensor | None = None
    completion_starts: Tensor | None = None
    pair_starts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """int64 [n]."""
        return self.offsets.diff()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of all that decides how a fast tokenizer cuts text.

    Raises:
        HarnessError: not a fast tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise HarnessError(
            f"The tokenizer {type(tokenizer).__name__} has no fast version (a tokenizer.json), which is needed here."
        )
    # Truncation and padding are set anew by each call, so the last call's must not count.
    model = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
    names = [type(tokenizer).__name__, transformers.__version__, tokenizers.__version__]
    sides = [tokenizer.truncation_side, list(tokenizer.model_input_names)]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return hashlib.sha256(json.dumps([model, names, sides, special], sort_keys=True).encode()).hexdigest()


def tokenise(rows: Rows, spec: TaskSpec, tokenizer: Any, fingerprint: str, cache_dir: Path) -> tuple[Tensors, Counts]:
    """Token ids of a split, from the cache where they are there.

    Args:
        fingerprint: `tokenizer_fingerprint` of `tokenizer`.

    Returns:
        The tensors of TokenSplit by name, but for the labels; and the counts ``truncated`` and ``too_long``
        (examples of causal_lm that were dropped, as the completion alone does not fit).

    Raises:
        HarnessError: causal_lm without an end-of-sequence token, or no completion fits.
    """
    parts = [str(FORMAT), spec.kind, str(spec.max_length), fingerprint, rows.fingerprint()]
    path = cache_dir / "tokens" / f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()}.safetensors"
    cached = read_tokens(path)
    if cached is None:
        cached = (_completions if spec.kind == "causal_lm" else _texts)(rows, spec, tokenizer)
        write_tokens(path, *cached)
    return cached


def _texts(rows: Rows, spec: TaskSpec, tokenizer: Any) -> tuple[Tensors, Counts]:
    typed = rows.pairs is not None and "token_type_ids" in tokenizer.model_input_names
    ids: list[list[int]] = []
    starts: list[int] = []
    truncated = 0
    for at in range(0, len(rows), CHUNK):
        pairs = None if rows.pairs is None else rows.pairs[at : at + CHUNK]
        batch = tokenizer(
            rows.texts[at : at + CHUNK], pairs, truncation=True, max_length=spec.max_length, padding=False,
            return_attention_mask=False, return_token_type_ids=typed, verbose=False,
        )  # fmt: skip
        ids += batch["input_ids"]
        truncated += sum(bool(encoding.overflowing) for encoding in batch.encodings)
        if typed:
            starts += [types.index(1) if 1 in types else len(types) for types in batch["token_type_ids"]]
    tensors = _flat(ids)
    if typed:
        tensors["pair_starts"] = torch.tensor(starts)
    return tensors, {"truncated": truncated, "too_long": 0}


def _completions(rows: Rows, spec: TaskSpec, tokenizer: Any) -> tuple[Tensors, Counts]:
    """bos (where the tokenizer adds one), prompt, cue, completion, eos; only the prompt's body is ever cut."""
    end = _eos(tokenizer)
    begin = _bos(tokenizer)
    cue = _plain(tokenizer, [rows.cue])[0] if rows.cue else []
    prompts = _plain(tokenizer, rows.texts)
    completions = _plain(tokenizer, [str(target) for target in rows.targets])
    examples: list[list[int]] = []
    starts: list[int] = []
    truncated = 0
    for prompt, completion in zip(prompts, completions, strict=True):
        room = spec.max_length - len(begin) - len(cue) - len(completion) - 1
        if room < 1:
            continue
        truncated += len(prompt) > room
        context = begin + prompt[:room] + cue
        examples.append([*context, *completion, end])
        starts.append(len(context))
    if not examples:
        shortest = min(map(len, completions)) + len(begin) + len(cue) + 2
        raise HarnessError(
            f"No completion of {spec.path} fits in task.max_length = {spec.max_length} tokens beside one token of its "
            f"prompt; the shortest needs {shortest}. Raise task.max_length."
        )
    tensors = _flat(examples) | {"completion_starts": torch.tensor(starts)}
    return tensors, {"truncated": truncated, "too_long": len(rows) - len(examples)}


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


def _eos(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise HarnessError(
            f"The tokenizer {type(tokenizer).__name__} has no end-of-sequence token, which a causal_lm task needs: "
            "use a model that generates text, such as asset:smollm2 or gpt2."
        )
    return tokenizer.eos_token_id


def _bos(tokenizer: Any) -> list[int]:
    """The begin-of-sequence token, where the tokenizer itself puts one in front."""
    alone = tokenizer("", verbose=False)["input_ids"]
    return [tokenizer.bos_token_id] if alone and alone[0] == tokenizer.bos_token_id else []


def _flat(examples: Sequence[Sequence[int]]) -> Tensors:
    offsets = torch.tensor([0, *accumulate(map(len, examples))])
    return {"input_ids": torch.tensor(list(chain.from_iterable(examples)), dtype=torch.int32), "offsets": offsets}
