"""Properties of the splits, on rows with repeated documents, repeated in other spellings, and rare classes."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from src.data.rows import ROLES, Rows
from src.data.splits import allocate, make_splits
from src.errors import ConfigError, HarnessError
from src.spec import TaskSpec

CLASSIFY = TaskSpec("some.csv", "classification", test_split=None)


def make_rows(labels: list[str], prefix: str = "doc") -> Rows:
    return Rows([f"{prefix} {i}" for i in range(len(labels))], None, list(labels))


@st.composite
def pools(draw: st.DrawFn, prefix: str = "doc") -> Rows:
    """Rows of at least two classes; some documents occur several times, in other spellings."""
    labels = ["a", "b", *draw(st.lists(st.sampled_from("aaaabbbccd"), min_size=10, max_size=60))]
    texts = [f"{prefix} {i}" for i in range(len(labels))]
    for i in draw(st.lists(st.integers(0, len(labels) - 1), max_size=8)):
        texts.append(f"  {prefix.upper()}   {i} ")
        labels.append(labels[i])
    return Rows(texts, None, list(labels))


def documents(rows: Rows) -> set[bytes]:
    return set(rows.documents())


@given(pools(), st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
def test_carved_splits_are_disjoint_exact_and_keep_every_class_in_train(
    pool: Rows, validation_size: int, test_size: int, seed: int
) -> None:
    spec = TaskSpec(
        "x", "classification", test_split=None, validation_size=validation_size, test_size=test_size, split_seed=seed
    )
    room = len(documents(pool)) - len(set(pool.targets))
    assume(validation_size + test_size <= room)
    splits = make_splits({"train": pool}, spec)
    found = {role: documents(splits.rows[role]) for role in ROLES}
    assert not found["train"] & found["validation"]
    assert not found["train"] & found["test"]
    assert not found["validation"] & found["test"]
    assert set().union(*found.values()) == documents(pool)
    assert len(splits.rows["validation"]) == validation_size
    assert len(splits.rows["test"]) == test_size
    assert set(splits.rows["train"].targets) == set(pool.targets)
    kept = sum(len(splits.rows[role]) for role in ROLES)
    assert kept + sum(splits.overlapping.values()) == len(pool)


@given(pools(), pools("doc"), pools("other"), st.integers(0, 3))
def test_documents_in_two_splits_stay_in_the_earlier_one(train: Rows, validation: Rows, test: Rows, seed: int) -> None:
    assume({*validation.targets, *test.targets} <= set(train.targets))
    mixed = Rows(test.texts + validation.texts, None, test.targets + validation.targets)
    spec = TaskSpec("x", "classification", validation_split="validation", split_seed=seed)
    sources = {"train": train, "validation": validation, "test": mixed}
    if documents(validation) <= documents(train):
        with pytest.raises(HarnessError, match="validation split of x is empty"):
            make_splits(sources, spec)
        return
    splits = make_splits(sources, spec)
    assert splits.rows["train"] == train
    assert documents(splits.rows["validation"]) == documents(validation) - documents(train)
    assert documents(splits.rows["test"]) == documents(test)
    assert splits.overlapping["test"] == len(validation)


@given(pools(), st.integers(0, 3), st.integers(4, 30))
def test_held_out_splits_do_not_depend_on_the_size_of_train(pool: Rows, seed: int, train_size: int) -> None:
    spec = TaskSpec("x", "classification", test_split=None, split_seed=seed)
    whole = make_splits({"train": pool}, spec)
    part = make_splits({"train": pool}, TaskSpec("x", "classification", None, test_split=None, split_seed=seed,
                                                 train_size=train_size))  # fmt: skip
    assert part.rows["validation"] == whole.rows["validation"]
    assert part.rows["test"] == whole.rows["test"]
    assert len(part.rows["train"]) == min(train_size, len(whole.rows["train"]))
    assert set(part.rows["train"].targets) == set(whole.rows["train"].targets)
    assert set(part.rows["train"].texts) <= set(whole.rows["train"].texts)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.data())
def test_allocation_is_exact_and_within_one_of_the_quota(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    share = allocate(counts, total, [0] * len(counts), counts)
    assert sum(share) == total
    for part, count in zip(share, counts, strict=True):
        assert 0 <= part <= count
        assert abs(part - Fraction(total * count, sum(counts))) < 1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.data())
def test_allocation_keeps_its_bounds(counts: list[int], data: st.DataObject) -> None:
    least = [data.draw(st.integers(0, n)) for n in counts]
    most = [data.draw(st.integers(lo, n)) for lo, n in zip(least, counts, strict=True)]
    total = data.draw(st.integers(sum(least), sum(most)))
    share = allocate(counts, total, least, most)
    assert sum(share) == total
    assert all(lo <= part <= hi for lo, part, hi in zip(least, share, most, strict=True))


def test_seed_decides_and_nothing_else() -> None:
    pool = make_rows(["a", "b", "c"] * 40)
    drawn = [
        make_splits({"train": pool}, TaskSpec("x", "classification", test_split=None, split_seed=s)) for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0].rows["validation"] != drawn[2].rows["validation"]


def test_validation_is_stratified() -> None:
    pool = make_rows(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    spec = TaskSpec("x", "classification", test_split=None, validation_size=20, test_size=10, train_size=40)
    splits = make_splits({"train": pool}, spec)
    assert Counter(splits.rows["validation"].targets) == {"a": 12, "b": 6, "c": 2}
    assert Counter(splits.rows["test"].targets) == {"a": 6, "b": 3, "c": 1}
    assert Counter(splits.rows["train"].targets) == {"a": 24, "b": 12, "c": 4}


def test_a_class_of_one_stays_in_train_also_in_a_small_subset() -> None:
    pool = make_rows(["a"] * 100 + ["rare"] + ["b"] * 100)
    for seed in range(5):
        spec = TaskSpec("x", "classification", test_split=None, train_size=3, split_seed=seed)
        splits = make_splits({"train": pool}, spec)
        assert set(splits.rows["train"].targets) == {"a", "rare", "b"}
        assert "rare" not in splits.rows["validation"].targets


def test_a_document_with_two_labels_is_never_held_out() -> None:
    pool = Rows([*(f"doc {i}" for i in range(20)), "Doc 0"], None, ["a"] * 10 + ["b"] * 10 + ["c"])
    for seed in range(10):
        spec = TaskSpec("x", "classification", test_split=None, split_seed=seed)
        assert "c" in make_splits({"train": pool}, spec).rows["train"].targets


def test_pairs_are_one_document_only_when_both_texts_agree() -> None:
    train = Rows(["same", "same"], ["one", "two"], ["a", "b"])
    test = Rows(["SAME", "same", "one"], ["one ", "three", "same"], ["a", "b", "a"])
    validation = Rows(["v"], ["v"], ["a"])
    spec = TaskSpec("x", "classification", text_pair="pair", validation_split="validation")
    splits = make_splits({"train": train, "validation": validation, "test": test}, spec)
    assert splits.rows["test"].texts == ["same", "one"]
    assert splits.overlapping == {"train": 0, "validation": 0, "test": 1}


def test_a_tenth_is_held_out_by_default_also_without_classes() -> None:
    pool = Rows([f"doc {i}" for i in range(100)], None, [float(i) for i in range(100)])
    splits = make_splits({"train": pool}, TaskSpec("x", "regression", test_split=None, metric="mse"))
    assert [len(splits.rows[role]) for role in ROLES] == [81, 9, 10]
    assert splits.rows["train"].texts == sorted(splits.rows["train"].texts, key=lambda text: int(text.split()[1]))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"validation_size": 50}, "task.validation_size is 50; allowed: at most 3[0-9],"),
        ({"train_size": 1}, "task.train_size is 1; allowed: at least 2, the number of classes"),
    ],
)
def test_sizes_that_the_data_cannot_give(change: dict[str, int], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_splits({"train": make_rows(["a", "b"] * 20)}, TaskSpec("x", "classification", test_split=None, **change))


def test_one_class_only_is_an_error() -> None:
    with pytest.raises(HarnessError, match="same label, 'a'"):
        make_splits({"train": make_rows(["a"] * 20)}, CLASSIFY)


def test_a_label_that_train_lacks_is_named() -> None:
    test = Rows(["t1", "t2", "t3"], None, ["a", "new", "newer"])
    with pytest.raises(HarnessError, match="test split of x has labels that train never shows: new, newer"):
        make_splits({"train": make_rows(["a", "b"] * 20), "test": test}, TaskSpec("x", "classification"))


def test_a_test_split_that_repeats_train_is_empty() -> None:
    train = make_rows(["a", "b"] * 20)
    with pytest.raises(HarnessError, match="test split of x is empty"):
        make_splits({"train": train, "test": train.take([0, 5]), "validation": make_rows(["a"], "v")},
                    TaskSpec("x", "classification", validation_split="validation"))  # fmt: skip
