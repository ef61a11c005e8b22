"""From a TaskSpec to tokenised splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.labels import class_ids, class_names
from src.data.rows import ROLES, Rows, read_rows
from src.data.sources import load_rows
from src.data.splits import Splits, make_splits
from src.data.tokens import TokenSplit, tokenise, tokenizer_fingerprint
from src.spec import TaskSpec


@dataclass(frozen=True)
class TaskData:
    """All that training and evaluation need of a task.

    Attributes:
        label_names: class names in the order of their ids; None for regression and causal_lm.
        num_labels: outputs of the head: the number of classes, 1 for regression, 0 for causal_lm.
        pad_id: token that fills up a batch: the tokenizer's pad token, else its end of sequence, else 0.
        report: plain JSON values for the run's record: sizes, what was dropped and why, tokens, the share of the
            largest class in validation, the SHA-256 of the data, and label_names.
    """

    spec: TaskSpec
    train: TokenSplit
    validation: TokenSplit
    test: TokenSplit
    label_names: tuple[str, ...] | None
    num_labels: int
    pad_id: int
    report: dict[str, Any]


def load_task(spec: TaskSpec, tokenizer: Any, cache_dir: Path) -> TaskData:
    """Load, split and tokenise; what was tokenised before comes from the cache.

    Args:
        tokenizer: a fast tokenizer of transformers.

    Raises:
        ConfigError, HarnessError: see load_rows, read_rows, make_splits and tokenise.
    """
    sources = load_rows(spec, cache_dir)
    read = {role: read_rows(dataset, spec, role) for role, dataset in sources.items()}
    splits = make_splits({role: rows for role, (rows, _) in read.items()}, spec)
    names = None
    if spec.kind == "classification":
        names = class_names(sources["train"], splits.rows["train"].targets, spec)
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokens: dict[str, TokenSplit] = {}
    reports: dict[str, dict[str, int]] = {}
    for role, rows in splits.rows.items():
        tensors, counts = tokenise(rows, spec, tokenizer, fingerprint, cache_dir)
        tokens[role] = TokenSplit(**tensors, labels=_labels(rows, spec, names))
        incomplete = read[role][1] if role in read else 0
        reports[role] = _split_report(splits, role, incomplete, tokens[role]) | counts
    num_labels = {"classification": len(names or ()), "regression": 1, "causal_lm": 0}[spec.kind]
    report = _report(splits.rows, spec, reports) | {"label_names": None if names is None else list(names)}
    return TaskData(spec, **tokens, label_names=names, num_labels=num_labels, pad_id=_pad_id(tokenizer), report=report)


def _labels(rows: Rows, spec: TaskSpec, names: tuple[str, ...] | None) -> Tensor | None:
    if names is not None:
        return torch.tensor(class_ids(rows.targets, names))
    return torch.tensor(rows.targets, dtype=torch.float32) if spec.kind == "regression" else None


def _pad_id(tokenizer: Any) -> int:
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def _split_report(splits: Splits, role: str, incomplete: int, tokens: TokenSplit) -> dict[str, int]:
    return {
        "examples": len(tokens),
        "available": splits.available[role],
        "incomplete": incomplete,
        "overlapping": splits.overlapping[role],
        "tokens": int(tokens.offsets[-1]),
    }


def _report(rows: Mapping[str, Rows], spec: TaskSpec, reports: dict[str, dict[str, int]]) -> dict[str, Any]:
    majority = None
    if spec.kind == "classification":
        targets = rows["validation"].targets
        majority = Counter(targets).most_common(1)[0][1] / len(targets)
    digest = hashlib.sha256("".join(rows[role].fingerprint() for role in ROLES).encode()).hexdigest()
    return {"path": spec.path, "subset": spec.subset, "splits": reports, "majority_share": majority, "sha256": digest}
