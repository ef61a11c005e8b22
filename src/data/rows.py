"""Rows of one split as plain lists: what is tokenised, and what is to be predicted."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset

from src.data.pictures import DIGEST, Pictures, pictures_of
from src.data.templates import parse_template
from src.errors import HarnessError, brief
from src.spec import TEXT_KINDS, TaskSpec

LARGEST = 3e38  # float32
ROLES = ("train", "validation", "test")
Target = str | float


@dataclass(frozen=True)
class Rows:
    """Examples in source order.

    Attributes:
        texts: input text, or for causal_lm and seq2seq the prompt without its cue (src/data/templates.py).
        pairs: second input text of a pair task, else None.
        targets: class name (classification), number (regression) or completion (causal_lm, seq2seq).
        cue: for causal_lm and seq2seq, the literal text that ends the prompt, the same in all rows.
        pictures: of a task with pictures in place of text, else None; `texts` then holds their digests, by which
            pictures are compared, and "" where one is missing.
    """

    texts: list[str]
    pairs: list[str] | None
    targets: list[Target]
    cue: str = ""
    pictures: Pictures | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Rows:
        """The rows at `indices`, in that order."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in indices]
        pictures = None if self.pictures is None else self.pictures.take(indices)
        return Rows([self.texts[i] for i in indices], pairs, [self.targets[i] for i in indices], self.cue, pictures)

    def documents(self) -> list[bytes]:
        """A key for each row that is equal for equal documents: the input text(s), normalised, without the target."""
        if self.pairs is None:
            return [_document(text) for text in self.texts]
        return [_document(text, pair) for text, pair in zip(self.texts, self.pairs, strict=True)]

    def fingerprint(self) -> str:
        """SHA-256 of texts, targets and cue, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for column in (self.texts, self.pairs or [], self.targets, [self.cue]):
            digest.update(f"column {len(column)}\n".encode())
            for value in column:
                raw = str(value).encode("utf-8", "surrogatepass")
                digest.update(f"{len(raw)}\n".encode() + raw)
        return digest.hexdigest()


def read_rows(dataset: Dataset, spec: TaskSpec, split: str) -> tuple[Rows, int]:
    """Rows with text and target, and the number of rows dropped for want of one.

    Raises:
        HarnessError: nothing is left, hidden labels, or a label of the wrong kind.
        ConfigError: a template that does not suit the data.
    """
    rows = _prompts(dataset, spec) if spec.kind in TEXT_KINDS else _labelled(dataset, spec, split)
    kept = [i for i in range(len(rows)) if _complete(rows, i)]
    if not kept:
        what = "completion" if spec.kind in TEXT_KINDS else "label"
        given = "text" if spec.image is None else "a picture"
        raise HarnessError(
            f"The {split} split of {spec.path} is empty: none of its {len(rows)} rows has both {given} and {what}."
        )
    return rows.take(kept), len(rows) - len(kept)


def _labelled(dataset: Dataset, spec: TaskSpec, split: str) -> Rows:
    feature = dataset.features[spec.label]
    raw: list[Any] = dataset[spec.label][:]
    _refuse_hidden(raw, feature, spec, split)
    convert = _number if spec.kind == "regression" else _class_name
    names = feature.names if isinstance(feature, ClassLabel) and spec.kind == "classification" else None
    try:
        targets = [convert(value) if names is None else _named(value, names) for value in raw]
    except ValueError as error:
        raise HarnessError(f"The column {spec.label} in the {split} split of {spec.path} holds {error}.") from error
    if spec.image is not None:
        return Rows(_texts(dataset, DIGEST), None, targets, pictures=pictures_of(dataset, spec, split))
    pairs = None if spec.text_pair is None else _texts(dataset, spec.text_pair)
    return Rows(_texts(dataset, spec.text), pairs, targets)


def _prompts(dataset: Dataset, spec: TaskSpec) -> Rows:
    prompt = parse_template(spec.prompt or "", dataset.column_names, "task.prompt")
    completion = parse_template(spec.completion or "", dataset.column_names, "task.completion")
    columns = dataset[:]
    texts: list[str] = []
    targets: list[Target] = []
    for i in range(len(dataset)):
        row = {name: values[i] for name, values in columns.items()}
        present = all(any(not _blank(row[name]) for name in part.columns) for part in (prompt, completion))
        texts.append(prompt.fill(row) if present else "")
        targets.append(completion.fill(row) + completion.cue if present else "")
    return Rows(texts, None, targets, prompt.cue)


def _refuse_hidden(raw: list[Any], feature: Any, spec: TaskSpec, split: str) -> None:
    """GLUE publishes its test splits with every label set to -1."""
    known = [value for value in raw if value is not None]
    numbered = spec.kind == "regression" or isinstance(feature, ClassLabel) or split != "train"
    if known and numbered and all(value == -1 for value in known):
        raise HarnessError(
            f"The labels of the {split} split of {spec.path} are hidden (all are -1), so nothing can be measured on "
            f"it. Set task.{split}_split to another split, such as the official validation split, or to null for a "
            "seeded part of train."
        )


def _texts(dataset: Dataset, column: str) -> list[str]:
    return ["" if value is None else str(value) for value in dataset[column][:]]


def _named(value: int | None, names: Sequence[str]) -> str:
    if value is None or value == -1:  # ClassLabel's own mark for a missing label
        return ""
    if not 0 <= value < len(names):
        raise ValueError(f"{value}, which is none of its {len(names)} classes")
    return names[value]


def _class_name(value: Any) -> str:
    """Class names are text, so that 1 in one file and "1" in another are the same class."""
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        if not value.is_integer():
            raise ValueError(f"{value}, which is not a class; for numbers set task.kind to regression")
        value = int(value)
    if not isinstance(value, str | int):
        raise ValueError(f"a {type(value).__name__}, which is not a class; allowed are text and whole numbers")
    return str(value).strip()


def _number(value: Any) -> float:
    """NaN stands for a missing value until the row is dropped."""
    try:
        number = math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{brief(repr(value))}, which is not a number") from None
    if abs(number) > LARGEST:
        raise ValueError("an infinite number, or one beyond float32")
    return number


def _complete(rows: Rows, i: int) -> bool:
    target = rows.targets[i]
    present = bool(target.strip()) if isinstance(target, str) else not math.isnan(target)
    return present and bool(rows.texts[i].strip()) and (rows.pairs is None or bool(rows.pairs[i].strip()))


def _blank(value: object) -> bool:
    return value is None or not str(value).strip()


def _document(*texts: str) -> bytes:
    normal = "\x00".join(" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in texts)
    return hashlib.blake2b(normal.encode("utf-8", "surrogatepass"), digest_size=16).digest()
