"""From a TaskSpec to tokenised splits, or splits of pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.labels import class_ids, class_names
from src.data.pixels import PictureProcessor, PictureSplit, Split, resize
from src.data.rows import ROLES, Rows, read_rows
from src.data.sources import load_rows
from src.data.splits import Splits, make_splits
from src.data.token_cache import Counts
from src.data.tokens import TokenSplit, tokenise, tokenizer_fingerprint
from src.spec import TaskSpec

# From a split's rows and labels to its examples, and counts of what was cut off.
Prepare = Callable[[Rows, Tensor | None], tuple[Split, Counts]]


@dataclass(frozen=True)
class TaskData:
    """All that training and evaluation need of a task.

    Attributes:
        label_names: class names in the order of their ids; None for regression, causal_lm and seq2seq.
        num_labels: outputs of the head: the number of classes, 1 for regression, 0 for causal_lm and
            seq2seq.
        pad_id: token that fills up a batch: the tokenizer's pad token, else its end of sequence, else 0.
        report: plain JSON values for the run's record: sizes, what was dropped and why, tokens, the share of the
            largest class in validation, the SHA-256 of the data, and label_names.
        test_completions: of causal_lm and seq2seq, the completion of each example of test as it was written; else None.
    """

    spec: TaskSpec
    train: Split
    validation: Split
    test: Split
    label_names: tuple[str, ...] | None
    num_labels: int
    pad_id: int
    report: dict[str, Any]
    test_completions: tuple[str, ...] | None = None


def load_task(spec: TaskSpec, preprocessor: Any, cache_dir: Path) -> TaskData:
    """Load, split and tokenise (or resize); what was tokenised before comes from the cache.

    Args:
        preprocessor: a fast tokenizer of transformers; for a task of pictures a PictureProcessor.

    Raises:
        ConfigError, HarnessError: see load_rows, read_rows, make_splits, tokenise and resize.
    """
    sources = load_rows(spec, cache_dir)
    read = {role: read_rows(dataset, spec, role) for role, dataset in sources.items()}
    splits = make_splits({role: rows for role, (rows, _) in read.items()}, spec)
    names = None
    if spec.kind == "classification":
        names = class_names(sources["train"], splits.rows["train"].targets, spec)
    prepare = _prepare(preprocessor, spec, cache_dir)
    tokens: dict[str, Split] = {}
    reports: dict[str, dict[str, int]] = {}
    for role, rows in splits.rows.items():
        tokens[role], counts = prepare(rows, _labels(rows, spec, names))
        incomplete = read[role][1] if role in read else 0
        reports[role] = _split_report(splits, role, incomplete, tokens[role]) | counts
    num_labels = {"classification": len(names or ()), "regression": 1}.get(spec.kind, 0)
    report = _report(splits.rows, spec, reports) | {"label_names": None if names is None else list(names)}
    return TaskData(
        spec, **tokens, label_names=names, num_labels=num_labels, pad_id=_pad_id(preprocessor), report=report,
        test_completions=_completions(splits.rows["test"], tokens["test"]),
    )  # fmt: skip


def _prepare(preprocessor: Any, spec: TaskSpec, cache_dir: Path) -> Prepare:
    picture = isinstance(preprocessor, PictureProcessor)
    fingerprint = "" if picture else tokenizer_fingerprint(preprocessor)

    def prepare(rows: Rows, labels: Tensor | None) -> tuple[Split, Counts]:
        if picture:
            assert labels is not None
            return PictureSplit(resize(rows, preprocessor, cache_dir), preprocessor, labels), {}
        tensors, counts = tokenise(rows, spec, preprocessor, fingerprint, cache_dir)
        return TokenSplit(**tensors, labels=labels), counts

    return prepare


def _labels(rows: Rows, spec: TaskSpec, names: tuple[str, ...] | None) -> Tensor | None:
    if names is not None:
        return torch.tensor(class_ids(rows.targets, names))
    return torch.tensor(rows.targets, dtype=torch.float32) if spec.kind == "regression" else None


def _completions(rows: Rows, tokens: Split) -> tuple[str, ...] | None:
    if isinstance(tokens, PictureSplit):
        return None
    return None if tokens.rows is None else tuple(str(rows.targets[row]) for row in tokens.rows.tolist())


def _pad_id(tokenizer: Any) -> int:
    if isinstance(tokenizer, PictureProcessor):
        return 0
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def _split_report(splits: Splits, role: str, incomplete: int, tokens: Split) -> dict[str, int]:
    return {
        "examples": len(tokens),
        "available": splits.available[role],
        "incomplete": incomplete,
        "overlapping": splits.overlapping[role],
        "tokens": tokens.num_tokens,
    }


def _report(rows: Mapping[str, Rows], spec: TaskSpec, reports: dict[str, dict[str, int]]) -> dict[str, Any]:
    majority = None
    if spec.kind == "classification":
        targets = rows["validation"].targets
        majority = Counter(targets).most_common(1)[0][1] / len(targets)
    digest = hashlib.sha256("".join(rows[role].fingerprint() for role in ROLES).encode()).hexdigest()
    return {"path": spec.path, "subset": spec.subset, "splits": reports, "majority_share": majority, "sha256": digest}
