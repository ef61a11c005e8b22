"""The canonical form of cells of each method, and what a method may be given."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_type_hints

import pytest

from src.errors import ConfigError
from src.spec import SIZED, FrozenMap, MethodSpec, RunSpec, TaskSpec, normalise, run_id
from tests.record_factory import make_spec

RUN = make_spec(optim__head_lr=3e-3)


def put(spec: RunSpec, key: str, value: Any) -> RunSpec:
    """`spec` with another group (``method``) or another key of one (``lora.rank``)."""
    group, _, name = key.partition(".")
    changed = dataclasses.replace(getattr(spec, group), **{name: value}) if name else value
    return dataclasses.replace(spec, **{group: changed})


METHODS = [name for name in get_args(get_type_hints(MethodSpec)["name"]) if name not in {"lora", "head"}]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_size_or_a_budget_where_it_has_one_at_all(name: str) -> None:
    plain, sized = (put(RUN, "method", MethodSpec(name, size)) for size in (None, 8))
    budget = put(put(plain, "lora.rank", None), "lora.budget", 1000)
    if name in SIZED:
        assert normalise(sized).method.size == 8
        with pytest.raises(ConfigError, match=r"method\.size"):
            normalise(plain)
    else:
        assert normalise(plain).method.size is None
        with pytest.raises(ConfigError, match=f"null: {name} has no size of its own"):
            normalise(sized)
    if name != "lora_prefix":
        assert normalise(budget).lora.budget == (1000 if name in SIZED else None)
    if name in set(SIZED) - {"lora_prefix"}:
        with pytest.raises(ConfigError, match=r"method.size and lora.budget are 8 and 1000; allowed: exactly one"):
            normalise(put(budget, "method.size", 8))


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"lora_prefix"}))
def test_what_shapes_lora_does_not_part_cells_of_other_methods(name: str) -> None:
    method = MethodSpec(name, 8 if name in SIZED else None)
    changes = [{}, {"lora__rank": 64}, {"lora__alpha": 32.0}, {"lora__dora": True}, {"lora__init": "pissa"},
               {"lora__ranks": FrozenMap({"q": 3})}]  # fmt: skip
    specs = [normalise(put(make_spec(**change), "method", method)) for change in changes]
    assert len({run_id(spec) for spec in specs}) == 1
    assert run_id(specs[0]) != run_id(put(specs[0], "optim.lr", 0.5))


def test_the_method_head_is_no_targets() -> None:
    assert normalise(put(RUN, "method", MethodSpec("head"))) == make_spec("none", optim__head_lr=3e-3)


def test_ranks_and_a_budget_exclude_each_other() -> None:
    spec = put(put(RUN, "lora.rank", None), "lora.budget", 1000)
    with pytest.raises(ConfigError, match=r"lora.ranks is .* null with lora.budget"):
        normalise(put(spec, "lora.ranks", FrozenMap({"q": 3})))


def test_equal_ranks_are_one_cell_however_they_are_written() -> None:
    """Order of keys, order of letters, and a range of one layer."""
    pairs = [({"q": 4, "v": 6}, {"v": 6, "q": 4}), ({"qv": 4}, {"vq": 4}), ({"3-3": 1, "q/0": 2}, {"q/0-0": 2, "3": 1})]
    for one, other in pairs:
        first, second = (normalise(put(RUN, "lora.ranks", FrozenMap(ranks))) for ranks in (one, other))
        assert run_id(first) == run_id(second)
    with pytest.raises(ConfigError, match="each place once"):
        normalise(put(RUN, "lora.ranks", FrozenMap({"qv": 4, "vq": 6})))


def test_the_head_has_no_size() -> None:
    with pytest.raises(ConfigError, match="null: head has no size of its own"):
        normalise(put(RUN, "method", MethodSpec("head", 5)))


def test_stacks_have_one_order() -> None:
    assert normalise(put(RUN, "lora.stacks", "cross+encoder")).lora.stacks == "encoder+cross"


def test_settings_of_generation_count_only_where_text_is_generated() -> None:
    greedy = TaskSpec("pydoc", "causal_lm", prompt="{a}", completion="{b}", metric="loss", generate=True)
    changes: list[dict[str, Any]] = [
        {"beams": 4},
        {"length_penalty": 0.9},
        {"no_repeat_ngram": 4},
        {"max_new_tokens": 9},
    ]

    def identities(task: TaskSpec) -> list[str]:
        tasks = [task, *(dataclasses.replace(task, **change) for change in changes)]
        return [run_id(normalise(put(RUN, "task", changed))) for changed in tasks]

    assert len(set(identities(dataclasses.replace(greedy, generate=False)))) == 1
    assert len(set(identities(dataclasses.replace(greedy, beams=2)))) == 5
    assert len(set(identities(greedy))) == 4  # only beams are compared by their length


def test_what_only_test_has_does_not_choose() -> None:
    task = TaskSpec("pydoc", "causal_lm", prompt="{a}", completion="{b}", metric="bleu", generate=True)
    with pytest.raises(ConfigError, match=r"task.metric is 'bleu'.*loss, perplexity.* bleu, is measured on test only"):
        normalise(put(RUN, "task", task))
