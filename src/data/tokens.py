"""Rows to token ids, with a cache keyed by text, tokenizer and length: a second start does not tokenise."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import Tensor

from src.data.completions import CHUNK, causal_tokens, seq2seq_tokens
from src.data.rows import Rows
from src.data.token_cache import Counts, Tensors, flat, read_tokens, write_tokens
from src.errors import HarnessError
from src.spec import TaskSpec

FORMAT = 2  # raise when the way of tokenising changes


@dataclass(frozen=True)
class TokenSplit:
    """The token ids of n examples, end to end.

    Attributes:
        input_ids: int32 [num_tokens].
        offsets: int64 [n + 1]; example i is input_ids[offsets[i] : offsets[i + 1]].
        labels: class ids int64 [n], numbers float32 [n], or None for causal_lm and seq2seq.
        completion_starts: int64 [n], position in the example where the completion begins; None but for causal_lm.
        pair_starts: int64 [n], position where the second text begins, for tokenizers that tell the two apart by
            token_type_ids; else None.
        rows: int64 [n], which of the split's rows each example was made from, as some do not fit; None but for
            causal_lm and seq2seq.
        target_ids, target_offsets: the decoder's targets, kept like input_ids and offsets; None but for seq2seq.
    """

    input_ids: Tensor
    offsets: Tensor
    labels: Tensor | None = None
    completion_starts: Tensor | None = None
    pair_starts: Tensor | None = None
    rows: Tensor | None = None
    target_ids: Tensor | None = None
    target_offsets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """int64 [n], of the inputs."""
        return self.offsets.diff()

    @property
    def num_tokens(self) -> int:
        """Of inputs and targets."""
        return len(self.input_ids) + (0 if self.target_ids is None else len(self.target_ids))


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
        (examples that were dropped, as the completion alone does not fit).

    Raises:
        HarnessError: see causal_tokens and seq2seq_tokens.
    """
    parts = [str(FORMAT), spec.kind, str(spec.max_length), fingerprint, rows.fingerprint()]
    path = cache_dir / "tokens" / f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()}.safetensors"
    cached = read_tokens(path)
    if cached is None:
        ways = {"causal_lm": causal_tokens, "seq2seq": seq2seq_tokens}
        cached = ways.get(spec.kind, _texts)(rows, spec, tokenizer)
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
    tensors = flat(ids)
    if typed:
        tensors["pair_starts"] = torch.tensor(starts)
    return tensors, {"truncated": truncated, "too_long": 0}
