"""What of a data set counts as an example, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from src.data.labels import class_ids, class_names
from src.data.rows import Rows, read_rows
from src.errors import HarnessError
from src.spec import TaskSpec

CLASSIFY = TaskSpec("x.csv", "classification")
REGRESS = TaskSpec("x.csv", "regression", metric="mse")
COMPLETE = TaskSpec("x.csv", "causal_lm", prompt="{text}{more}:", completion=" {label}", metric="loss")


def rows_of(spec: TaskSpec, split: str = "train", **columns: list[Any]) -> tuple[Rows, int]:
    return read_rows(Dataset.from_dict(columns), spec, split)


def test_rows_without_text_or_label_are_dropped_and_counted() -> None:
    rows, dropped = rows_of(CLASSIFY, text=["a", None, "  ", "d", "e"], label=["x", "x", "x", None, " y "])
    assert (rows.texts, rows.targets, dropped) == (["a", "e"], ["x", "y"], 3)


def test_a_pair_needs_both_texts() -> None:
    spec = TaskSpec("x", "classification", text_pair="other")
    rows, dropped = rows_of(spec, text=["a", "b"], other=["c", None], label=[0, 1])
    assert (rows.texts, rows.pairs, dropped) == (["a"], ["c"], 1)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(HarnessError, match="none of its 2 rows has both text and label"):
        rows_of(CLASSIFY, text=["", None], label=["x", "y"])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1, 0, 10, 2], ("0", "1", "2", "10")),
        ([1.0, 0.0, None, -1.0], ("-1", "0", "1")),
        ([True, False, True, True], ("False", "True")),
        (["b", "a", "10", "9"], ("10", "9", "a", "b")),
    ],
)
def test_classes_are_sorted_as_what_they_are(values: list[Any], names: tuple[str, ...]) -> None:
    data = Dataset.from_dict({"text": ["t"] * 4, "label": values})
    rows, _ = read_rows(data, CLASSIFY, "train")
    assert class_names(data, rows.targets, CLASSIFY) == names
    assert [names[i] for i in class_ids(rows.targets, names)] == rows.targets


def class_label_data(ids: list[int | None]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes", "never seen"])})
    return Dataset.from_dict({"text": ["t"] * len(ids), "label": ids}, features=features)


def test_a_class_label_column_keeps_its_names_and_order() -> None:
    data = class_label_data([1, 0, None, -1])
    rows, dropped = read_rows(data, CLASSIFY, "train")
    assert (rows.targets, dropped) == (["yes", "no"], 2)
    assert class_names(data, rows.targets, CLASSIFY) == ("no", "yes", "never seen")


def test_hidden_labels_name_the_way_out() -> None:
    with pytest.raises(HarnessError, match=r"hidden.*task\.test_split"):
        read_rows(class_label_data([-1, -1]), CLASSIFY, "test")
    with pytest.raises(HarnessError, match="hidden"):
        rows_of(REGRESS, "test", text=["a", "b"], label=[-1.0, -1.0])
    with pytest.raises(HarnessError, match="hidden"):
        rows_of(CLASSIFY, "test", text=["a", "b"], label=[-1, -1])


def test_minus_one_among_others_is_a_class() -> None:
    rows, _ = rows_of(CLASSIFY, text=["a", "b"], label=[-1, 1])
    assert rows.targets == ["-1", "1"]


@pytest.mark.parametrize(
    ("spec", "label", "match"),
    [
        (CLASSIFY, [0.5, 1.0], "0.5, which is not a class; for numbers set task.kind to regression"),
        (CLASSIFY, [[1], [2]], "a list, which is not a class"),
        (REGRESS, ["0.5", "much"], "'much', which is not a number"),
        (REGRESS, [1.0, float("inf")], "an infinite number"),
    ],
)
def test_labels_of_the_wrong_kind(spec: TaskSpec, label: list[Any], match: str) -> None:
    with pytest.raises(HarnessError, match=match):
        rows_of(spec, text=["a", "b"], label=label)


def test_numbers_and_missing_numbers() -> None:
    rows, dropped = rows_of(REGRESS, text=["a", "b", "c"], label=["1.5", None, "-2"])
    assert (rows.targets, dropped) == ([1.5, -2.0], 1)


def test_prompts_and_completions() -> None:
    rows, dropped = rows_of(
        COMPLETE, text=["a", None, None, "d"], more=["", "b", None, ""], label=["one", "two", "three", " "]
    )
    assert (rows.texts, rows.targets, rows.cue, dropped) == (["a", "b"], [" one", " two"], ":", 2)


def test_documents_are_equal_up_to_case_blanks_and_unicode_form() -> None:
    one, two, three, four = Rows(["Ärger  im\tBüro ", "ärger im büro", "ﬁne", "fine"], None, [""] * 4).documents()
    assert one == two
    assert three == four != one


def test_fingerprint_sees_every_boundary() -> None:
    variants = [
        Rows(["ab", "c"], None, ["x", "y"]),
        Rows(["a", "bc"], None, ["x", "y"]),
        Rows(["ab", "c"], None, ["x", "z"]),
        Rows(["ab", "c"], None, ["x", "y"], cue="z"),
        Rows(["ab"], ["c"], ["x", "y"]),
        Rows(["c", "ab"], None, ["x", "y"]),
    ]
    assert len({rows.fingerprint() for rows in variants}) == len(variants)
    assert variants[0].fingerprint() == Rows(["ab", "c"], None, ["x", "y"]).fingerprint()
