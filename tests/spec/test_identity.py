"""The identity of a run: what can change a result changes it, nothing else does."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.spec import (
    FrozenMap,
    LoraSpec,
    ModelSpec,
    OptimSpec,
    RunSpec,
    TaskSpec,
    TrainerSpec,
    default_study,
    run_id,
    run_spec_from_dict,
    slug,
    source_name,
    to_dict,
)
from src.spec.identity import canonical_json
from tests.record_factory import make_spec

BASE = make_spec()


def leaves(spec: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """(path, value, whether it belongs to the identity) of every field, groups opened."""
    for f in dataclasses.fields(spec):
        value, here = getattr(spec, f.name), (*path, f.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, *here)
        else:
            yield here, value, f.metadata.get("identity", True)


def replace(spec: Any, path: tuple[str, ...], value: Any) -> Any:
    name, *rest = path
    return dataclasses.replace(spec, **{name: replace(getattr(spec, name), tuple(rest), value) if rest else value})


def another(path: tuple[str, ...], value: Any) -> Any:
    """A different value of the same kind; numbers change by little."""
    match value:
        case None:
            return FrozenMap({"q": 3}) if path[-1] in {"ranks", "projections"} else "3"
        case str():
            return f"{value}x"
        case float():
            return value + 1e-9
    return value + 1


FIELDS = list(leaves(BASE))


def fields_that_count(*, counts: bool) -> list[Any]:
    return [pytest.param(path, value, id=".".join(path)) for path, value, identity in FIELDS if identity == counts]


@pytest.mark.parametrize(("path", "value"), fields_that_count(counts=True))
def test_what_can_change_a_result_changes_the_run_id(path: tuple[str, ...], value: Any) -> None:
    assert run_id(replace(BASE, path, another(path, value))) != run_id(BASE)


@pytest.mark.parametrize(("path", "value"), fields_that_count(counts=False))
def test_what_cannot_change_a_result_leaves_the_run_id(path: tuple[str, ...], value: Any) -> None:
    assert run_id(replace(BASE, path, another(path, value))) == run_id(BASE)


def test_only_pace_memory_and_batch_of_evaluation_are_left_out() -> None:
    left_out = {path for path, _, identity in FIELDS if not identity}
    names = {"eval_batch_size", "checkpoint_every", "gradient_checkpointing", "cache_frozen"}
    assert left_out == {("trainer", name) for name in names}


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a spec's type; numbers are finite, since JSON has no others."""
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{f.name: anything(hints[f.name]) for f in dataclasses.fields(kind)})
    if get_origin(kind) is UnionType:
        return st.one_of(*map(anything, get_args(kind)))
    if get_origin(kind) is FrozenMap:
        return st.dictionaries(st.text(), anything(get_args(kind)[0])).map(FrozenMap)
    return st.floats(allow_nan=False, allow_infinity=False) if kind is float else st.from_type(kind)


@given(anything(RunSpec))
def test_a_spec_survives_its_way_through_json(spec: RunSpec) -> None:
    again = run_spec_from_dict(json.loads(json.dumps(to_dict(spec))))
    assert again == spec
    assert run_id(again) == run_id(spec)


def test_equal_specs_have_equal_identities_whatever_the_type_of_their_numbers() -> None:
    whole = dataclasses.replace(BASE, lora=dataclasses.replace(BASE.lora, alpha=16, dropout=0))
    assert whole == BASE
    assert run_id(whole) == run_id(BASE)


def test_canonical_json_does_not_depend_on_the_order_of_fields() -> None:
    values = json.loads(canonical_json(BASE))
    assert list(values) == sorted(values)
    assert canonical_json(BASE) == json.dumps(values, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("change", [{"more": 1}, {"lora": {"targets": "qv"}}])
def test_unknown_and_missing_fields_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        run_spec_from_dict({**to_dict(BASE), **change})


@pytest.mark.parametrize(
    ("spec", "readable"),
    [
        (make_spec("vq", 4, seed=3), "qv-r4-a16-lr0.003-s3"),
        (make_spec("qkvo", None, lora__budget=73728), "qkvo-b73728-a16-lr0.003-s0"),
        (make_spec("none", 4), "none-lr0.01-s0"),
        (make_spec("q", 1, lora__alpha=0.5, optim__lr=1e-5), "q-r1-a0.5-lr1e-05-s0"),
        (make_spec(lora__dora=True, lora__init="pissa"), "dora-pissa-qv-r4-a16-lr0.003-s0"),
        (make_spec(lora__ranks=FrozenMap({"q/0-1": 2, "v": 8})), "qv-r4+v=8+q.0-1=2-a16-lr0.003-s0"),
        (make_spec(lora__ranks=FrozenMap({str(i): i + 1 for i in range(30)})), "qv-r4+mixed-a16-lr0.003-s0"),
        (make_spec(lora__rslora=True, lora__b_lr_ratio=16.0), "rslora-plus-qv-r4-a16-lr0.003-s0"),
        (make_spec(lora__stacks="cross+encoder"), "qv-encoder+cross-r4-a16-lr0.003-s0"),
        (make_spec(method__name="random_subspace", method__size=256), "random_subspace-d256-lr0.003-s0"),
        (make_spec(method__name="full"), "full-lr0.003-s0"),
        (make_spec(method__name="head"), "none-lr0.01-s0"),
        (make_spec(method__name="prefix", method__size=8), "prefix-m8-lr0.003-s0"),
        (make_spec(rank=None, method__name="adapter_h", lora__budget=999), "adapter_h-b999-lr0.003-s0"),
        (make_spec(method__name="lora_prefix", method__size=8), "lora_prefix-qv-r4-m8-a16-lr0.003-s0"),
    ],
)
def test_a_run_id_is_a_readable_slug_and_ten_digits(spec: RunSpec, readable: str) -> None:
    assert slug(spec) == readable
    assert re.fullmatch(re.escape(readable) + r"-[0-9a-f]{10}", run_id(spec))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("asset:r52", "r52"),
        ("nyu-mll/glue", "glue"),
        ("/data/my.csv", "my"),
        ("./models/tiny/", "tiny"),
        ("a.b/c.parquet", "c"),
        ("gpt2", "gpt2"),
    ],
)
def test_short_names_of_sources(path: str, name: str) -> None:
    assert source_name(path) == name


def test_the_default_study_is_a_folder_name() -> None:
    assert default_study(make_spec(task__path="nyu-mll/glue", task__subset="sst2")) == "minilm-sst2"
    assert default_study(make_spec(model__path="/my models/a b", task__path="/x/y (1).csv")) == "a_b-y__1_"


def test_specs_are_frozen_and_hashable() -> None:
    assert {BASE: 1}[make_spec()] == 1
    for value, name in (
        (BASE, "seed"),
        (BASE.lora, "rank"),
        (TrainerSpec(), "epochs"),
        (LoraSpec("q", 1, None, 1.0), "a"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 5)


def test_runs_of_the_first_studies_keep_their_identity() -> None:
    """Choices that came later do not count at their defaults; this id was given before there were any."""
    spec = RunSpec(
        ModelSpec("asset:minilm"),
        TaskSpec("asset:r52", "classification"),
        LoraSpec("qv", 4, None, 16.0),
        OptimSpec(3e-3, 3e-3),
        TrainerSpec(),
    )
    assert run_id(spec) == "qv-r4-a16-lr0.003-s0-30f0eae81b"
