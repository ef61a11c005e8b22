from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from src.comparison import find, no_examples
from src.comparison.method import SAID, adapts, method_of, several_methods
from src.records import RunRecord
from src.spec import FrozenMap
from tests.plots.studies import KIN, methods_at_one_budget
from tests.record_factory import make_record, make_spec, one_table

OTHERS = ("full", "bitfit", "adapter_h", "adapter_l", "prefix", "random_subspace")


def cell_of(**changes: Any) -> Any:
    (cell,) = one_table(make_record(make_spec("qv", changes.pop("rank", 8), **changes))).ranked
    return cell


@pytest.mark.parametrize(
    ("changes", "method", "name"),
    [
        ({}, "LoRA", "qv r=8"),
        ({"lora__dora": True}, "DoRA", "DoRA qv r=8"),
        ({"lora__dora": True, "lora__rslora": True}, "DoRA + rsLoRA", "DoRA + rsLoRA qv r=8"),
        ({"lora__b_lr_ratio": 16.0}, "LoRA+", "LoRA+ qv r=8"),
        ({"lora__init": "pissa"}, "PiSSA", "PiSSA qv r=8"),
        ({"lora__init": "gaussian"}, "LoRA", "qv r=8"),
        ({"method__name": "full"}, "full fine-tuning", "full fine-tuning"),
        ({"method__name": "bitfit"}, "BitFit", "BitFit"),
        ({"method__name": "adapter_h", "method__size": 64}, "Adapter^H", "Adapter^H m=64"),
        ({"method__name": "prefix", "method__size": 16}, "prefix", "prefix m=16"),
        ({"method__name": "lora_prefix", "method__size": 4}, "LoRA + prefix", "LoRA + prefix qv r=8, m=4"),
        ({"method__name": "random_subspace", "method__size": 8}, SAID, f"{SAID} d=8"),
        ({"lora__ranks": FrozenMap(v=16, q=4)}, "LoRA", "qv r={q: 4, v: 16}"),
        ({"lora__ranks": FrozenMap({"q/0-2": 4})}, "LoRA", "qv r=8 {q/0-2: 4}"),
    ],
)  # fmt: skip
def test_methods_and_sizes_are_named_as_readers_know_them(changes: dict[str, Any], method: str, name: str) -> None:
    cell = cell_of(**changes)
    assert (cell.method, cell.name, cell.adapted) == (method, name, True)


def test_without_the_scales_a_random_subspace_is_did() -> None:
    spec = make_spec(method__name="random_subspace", method__size=8, method__said=False)
    assert method_of(spec) == "random subspace (DID)"


def test_the_head_alone_is_no_method_and_everything_else_adapts() -> None:
    head = make_spec("none", None)
    assert not adapts(head) and method_of(head) == "head only" and cell_of(method__name="head").name == "none"
    assert all(adapts(make_spec(method__name=name, **_size(name))) for name in OTHERS)
    assert not several_methods([head, make_spec()]) and several_methods([make_spec(lora__dora=True)])


def _size(name: str) -> dict[str, int]:
    return {} if name in ("full", "bitfit") else {"method__size": 8}


def test_sizes_from_a_budget_are_known_once_a_run_has_told() -> None:
    spec = make_spec("qv", None, method__name="prefix", lora__budget=73_728)
    record = make_record(spec)
    (known,) = one_table(record).ranked
    assert known.name == "prefix m=16" and known.residual == 0
    failed = dataclasses.replace(record, status="failed", params=dataclasses.replace(record.params, size=None))
    (problem,) = one_table(failed).problems
    assert problem.label.startswith("prefix budget 73,728 (lr 0.003)")


def test_a_table_of_plain_lora_has_no_column_for_methods() -> None:
    plain = one_table(make_record(make_spec()), make_record(make_spec("none", None)))
    titles = [column.title for column in plain.columns]
    assert not {"method", "size", "ranks"} & {*titles} and "adapter parameters" in titles


def test_a_table_of_methods_shows_method_and_size_and_repeats_neither() -> None:
    table = one_table(*methods_at_one_budget(seeds=1))
    assert table.varying == ()
    assert [column.title for column in table.columns] == [
        "method", "targets", "rank", "size", "alpha", "lr", "seeds", "trained parameters", "validation", "test", "time"
    ]  # fmt: skip
    rows = {tuple(table.row(cell)[:4]) for cell in table.ranked}
    assert {("LoRA", "qv", "8", "-"), ("prefix", "-", "-", "16"), ("head only", "none", "-", "-")} <= rows


def test_what_a_method_name_does_not_tell_stays_a_column() -> None:
    specs = [make_spec(lora__b_lr_ratio=ratio) for ratio in (1.0, 4.0, 16.0)]
    specs.append(make_spec(method__name="full", optim__weight_decay=0.1))
    table = one_table(*map(make_record, specs))
    assert table.varying == ("lora.b_lr_ratio", "optim.weight_decay")
    labels = {table.label(cell) for cell in table.ranked}
    assert "LoRA+ qv r=4 (alpha 16, lr 0.003, b_lr_ratio 4, weight_decay 0)" in labels


def test_only_learning_rates_and_alphas_are_tuned_within_a_configuration() -> None:
    findings = find(one_table(*methods_at_one_budget(seeds=2)), no_examples, margin=0.01)
    assert len(findings.contenders) == len({c.choice.cell.method for c in findings.contenders}) == 5 + len(OTHERS)
    assert all(c.choice.tried == {0.003, 0.01} for c in findings.contenders)
    assert findings.baseline is not None and findings.baseline.label == "head only"


def test_ranks_by_matrix_and_sizes_are_configurations_of_their_own() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"lora__ranks": FrozenMap(q=2)}, {"lora__ranks": FrozenMap(q=1)},
        {"method__name": "adapter_h", "method__size": 8}, {"method__name": "adapter_h", "method__size": 16},
        {"method__name": "lora_prefix", "method__size": 8}, *KIN.values(),
    ]  # fmt: skip
    records: list[RunRecord] = [make_record(make_spec("qv", 4, **own)) for own in changes]
    findings = find(one_table(*records), no_examples, margin=0.01)
    assert len({contender.label for contender in findings.contenders}) == len(records)


def test_a_diverged_rate_of_a_method_counts_as_tried() -> None:
    prefix = {"method__name": "prefix", "method__size": 8}
    good = make_record(make_spec(optim__lr=0.01, **prefix))
    lost = make_record(make_spec(optim__lr=0.1, **prefix), status="diverged")
    (contender,) = find(one_table(good, lost), no_examples, margin=0.01).contenders
    assert (contender.choice.tried, contender.choice.at_edge) == ({0.01, 0.1}, "lowest")
