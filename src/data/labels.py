"""Class names to class ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from datasets import ClassLabel, Dataset

from src.data.rows import Target
from src.spec import TaskSpec


def class_names(train: Dataset, targets: Iterable[Target], spec: TaskSpec) -> tuple[str, ...]:
    """Names in the order of their ids.

    A ClassLabel column keeps its own order. Otherwise the names of train are sorted: as numbers where all of
    them are whole numbers, else as text.
    """
    feature = train.features[spec.label]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    names = {str(target) for target in targets}
    if all(name.removeprefix("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def class_ids(targets: Iterable[Target], names: Sequence[str]) -> list[int]:
    """Raises:
    KeyError: a target that is not among the names.
    """
    ids = {name: i for i, name in enumerate(names)}
    return [ids[str(target)] for target in targets]
