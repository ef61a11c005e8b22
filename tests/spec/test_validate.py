"""Every check has an example that fails it; the message names the key, the value and what is allowed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import ConfigError
from src.spec import (
    METRICS,
    FrozenMap,
    LoraSpec,
    MethodSpec,
    ModelSpec,
    OptimSpec,
    RunSpec,
    Settings,
    TaskSpec,
    TrackingSpec,
    TrainerSpec,
    check_settings,
    layer_range,
    normalise,
    run_id,
)
from tests.record_factory import make_spec

GROUPS = {
    "model": ModelSpec, "task": TaskSpec, "method": MethodSpec, "lora": LoraSpec, "optim": OptimSpec,
    "trainer": TrainerSpec,
}  # fmt: skip
NAN, INF = math.nan, math.inf
SETTINGS = Settings(study="s", output_dir="out", cache_dir="cache")
RUN = RunSpec(
    ModelSpec("asset:minilm"),
    TaskSpec("asset:r52", "classification"),
    LoraSpec("qv", 4, None, 16.0),
    OptimSpec(3e-3, 3e-3),
    TrainerSpec(),
)

# Key -> values that are refused, and words of the message's "allowed".
BAD: dict[str, tuple[list[Any], str]] = {
    "seed": ([-1, 2**32], "a whole number from 0 to 4294967295"),
    "model.path": ([""], "asset:<name>, a hub id or a local folder"),
    "model.pooling": (["max", "", None], "mean or first or last"),
    "task.path": ([""], "a hub id, a local folder or a file"),
    "task.kind": (["ranking"], "classification or regression or causal_lm or seq2seq"),
    "task.generate": ([True], "false for classification, which writes no text"),
    "task.beams": ([0, -1], "a whole number of at least 1"),
    "task.max_new_tokens": ([0], "a whole number of at least 1"),
    "task.no_repeat_ngram": ([-1], "a whole number of at least 0"),
    "task.length_penalty": ([NAN, INF], "a number"),
    "method.name": (["ia3", ""], "lora or full or head or bitfit"),
    "method.size": ([0, 3], "a whole number of at least 1|null: lora has no size of its own"),
    "task.train_size": ([0, -5], "a whole number of at least 1, or null"),
    "task.validation_size": ([0], "a whole number of at least 1, or null"),
    "task.test_size": ([0], "a whole number of at least 1, or null"),
    "task.split_seed": ([-1, 2**32], "a whole number from 0 to 4294967295"),
    "task.max_length": ([3, 0, -1], "a whole number of at least 4"),
    "task.metric": (["bleu", "pearson", ""], "for classification: accuracy, f1, macro_f1, matthews, loss"),
    "lora.targets": (["", "qz", "qq"], "letters of qkvougd in any order"),
    "lora.rank": ([0, -1], "a whole number of at least 1, at most the matrix's smaller side"),
    "lora.alpha": ([0.0, -1.0, NAN, INF], "a number above 0"),
    "lora.dropout": ([-0.1, 1.0, NAN], "a number in [0, 1)"),
    "lora.init": (["zeros"], "gaussian or kaiming or pissa"),
    "lora.b_lr_ratio": ([0.0, -1.0, NAN, INF], "a number above 0; 1 for the same learning rate, 16 in LoRA+"),
    "lora.ranks": (
        [FrozenMap(ranks) for ranks in ({"w": 1}, {"qq": 1}, {"q": 0}, {"q/": 1}, {"/1": 1}, {"3-1": 1}, {"": 1})],
        "{where: rank, ...} with letters",
    ),
    "lora.fill": (["layers", "heads"], "none without lora.budget|none or layers"),
    "lora.stacks": (["", "both", "cross+cross", "encoder,decoder"], "encoder, decoder, cross"),
    "lora.layers": (["3", "a-b", "1-2-3", "-1-2", " 0-1", ""], "a-b, the first and the last layer counted from 0"),
    "optim.lr": ([0.0, -1e-3, NAN, INF], "a number above 0"),
    "optim.head_lr": ([0.0, -1e-3, NAN, INF], "a number above 0"),
    "optim.weight_decay": ([-0.1, NAN, INF], "a number of at least 0"),
    "optim.beta1": ([-0.1, 1.0, NAN], "a number in [0, 1)"),
    "optim.beta2": ([-0.1, 1.0, NAN], "a number in [0, 1)"),
    "optim.eps": ([0.0, -1.0, NAN], "a number above 0"),
    "optim.schedule": (["step"], "linear or cosine or constant"),
    "optim.warmup": ([-0.1, 1.0, NAN], "a number in [0, 1)"),
    "optim.clip": ([0.0, -1.0, NAN, INF], "a number above 0, or null"),
    "optim.label_smoothing": ([-0.1, 1.0, NAN], "a number in [0, 1)"),
    "trainer.epochs": ([0], "a whole number of at least 1"),
    "trainer.max_steps": ([0], "a whole number of at least 1, or null"),
    "trainer.batch_size": ([0], "a whole number of at least 1"),
    "trainer.accumulation": ([0, 17], "a whole number of at least 1|at most trainer.batch_size (16)"),
    "trainer.eval_every": ([0], "a whole number of at least 1, or null"),
    "trainer.patience": ([0], "a whole number of at least 1, or null"),
    "trainer.dtype": (["float16"], "auto or float32 or bfloat16 or float64"),
    "trainer.eval_batch_size": ([0], "a whole number of at least 1"),
    "trainer.checkpoint_every": ([0], "a whole number of at least 1"),
}
# Whether a name exists shows only when model and data are read; a budget is checked with the rank, templates by kind.
NOT_ALONE = {
    "model.revision", "model.projections", "lora.budget", "task.prompt", "task.completion", "task.image", "lora.dora",
    "lora.rslora", "method.said", "trainer.cache_frozen", "trainer.gradient_checkpointing",
} | {
    f"task.{name}"
    for name in (
        "test_path", "subset", "text", "text_pair", "label", "train_split", "validation_split", "test_split",
    )
}  # fmt: skip
BAD_SETTINGS: dict[str, tuple[list[Any], str]] = {
    "study": (["", "a/b", "..", ".", "-x", "a b"], "a folder name of letters, digits and . _ + = -"),
    "device": (["gpu", "cuda:", "cuda:x", "", "CPU"], "auto, cpu, cuda or cuda:<index>"),
    "pack": ([0, -1, "all"], "auto, or a whole number of at least 1"),
    "within": ([-0.1, NAN, INF], "a number of at least 0"),
    "tracking.backend": (["mlflow"], "wandb or none"),
    "tracking.mode": (["disabled"], "auto or online or offline"),
    "tracking.log_every": ([0], "a whole number of at least 1"),
    "tracking.init_timeout_s": ([0.0, -1.0, NAN], "seconds above 0"),
    "tracking.finish_timeout_s": ([0.0, -1.0, NAN], "seconds above 0"),
}


def put(spec: Any, key: str, value: Any) -> Any:
    name, _, rest = key.partition(".")
    return dataclasses.replace(spec, **{name: put(getattr(spec, name), rest, value) if rest else value})


def examples(table: dict[str, tuple[list[Any], str]]) -> list[Any]:
    return [
        pytest.param(key, value, words, id=f"{key}={value}")
        for key, (values, words) in table.items()
        for value in values
    ]


def refused(check: Any, spec: Any, key: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(put(spec, key, value))
    assert caught.value.key == key
    assert caught.value.value is value
    assert any(option in caught.value.allowed for option in words.split("|"))
    shown = "not set" if value is None else repr(value)
    assert str(caught.value) == f"{key} is {shown}; allowed: {caught.value.allowed}."
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("key", "value", "words"), examples(BAD))
def test_a_bad_value_of_a_run_is_refused(key: str, value: Any, words: str) -> None:
    refused(normalise, RUN, key, value, words)


@pytest.mark.parametrize(("key", "value", "words"), examples(BAD_SETTINGS))
def test_a_bad_setting_is_refused(key: str, value: Any, words: str) -> None:
    refused(check_settings, SETTINGS, key, value, words)


def test_every_key_of_a_run_has_a_bad_example_or_a_reason_why_not() -> None:
    keys = {f"{group}.{f.name}" for group, spec in GROUPS.items() for f in dataclasses.fields(spec)} | {"seed"}
    assert set(BAD) | NOT_ALONE == keys
    assert not set(BAD) & NOT_ALONE


def test_every_literal_field_has_a_bad_example() -> None:
    specs = {**GROUPS, "tracking": TrackingSpec}
    literals = {
        f"{group}.{name}"
        for group, spec in specs.items()
        for name, hint in get_type_hints(spec).items()
        if get_origin(hint) is Literal
    }
    assert literals <= set(BAD) | set(BAD_SETTINGS)


def test_the_good_examples_are_good() -> None:
    assert normalise(RUN) == RUN
    assert check_settings(SETTINGS) is SETTINGS


@pytest.mark.parametrize(("rank", "budget"), [(None, None), (4, 1000)])
def test_rank_or_budget_and_exactly_one(rank: int | None, budget: int | None) -> None:
    with pytest.raises(ConfigError, match=r"lora.rank and lora.budget are .*exactly one of the two") as caught:
        normalise(put(put(RUN, "lora.rank", rank), "lora.budget", budget))
    assert caught.value.value == (rank, budget)


def test_a_budget_is_at_least_one() -> None:
    with pytest.raises(ConfigError, match=r"lora.budget is 0; allowed: a whole number of at least 1"):
        normalise(put(put(RUN, "lora.rank", None), "lora.budget", 0))


@pytest.mark.parametrize("name", ["prompt", "completion"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_causal_lm_needs_both_templates(name: str, value: str | None) -> None:
    task = TaskSpec("pydoc", "causal_lm", prompt="{a}", completion="{b}", metric="loss")
    assert normalise(put(RUN, "task", task)).task == task
    with pytest.raises(ConfigError, match=rf"task.{name} is .*a template such as"):
        normalise(put(RUN, "task", dataclasses.replace(task, **{name: value})))


@pytest.mark.parametrize("kind", METRICS)
def test_each_kind_has_its_own_metrics(kind: Any) -> None:
    task = TaskSpec("x", kind, prompt="{a}", completion="{b}")
    for metric in {metric for metrics in METRICS.values() for metric in metrics}:
        spec = put(RUN, "task", dataclasses.replace(task, metric=metric))
        if metric in METRICS[kind]:
            assert normalise(spec) == spec
        else:
            with pytest.raises(ConfigError, match=f"allowed: for {kind}: {METRICS[kind][0]}"):
                normalise(spec)


def test_regression_knows_no_label_smoothing() -> None:
    spec = put(RUN, "task", TaskSpec("x", "regression", metric="mse"))
    assert normalise(spec) == spec
    with pytest.raises(ConfigError, match=r"optim.label_smoothing is 0.1; allowed: 0 for a regression task"):
        normalise(put(spec, "optim.label_smoothing", 0.1))


def test_sweeping_anything_about_adapters_gives_one_cell_without_adapters() -> None:
    changes = [
        {}, {"lora__rank": 64}, {"lora__rank": None, "lora__budget": 10}, {"lora__alpha": 32.0}, {"optim__lr": 0.1},
        {"lora__dropout": 0.5}, {"lora__init": "gaussian"}, {"lora__layers": "0-1"}, {"lora__rank": None},
    ]  # fmt: skip
    specs = [make_spec("none", **change) for change in changes]
    assert len({run_id(spec) for spec in specs}) == 1
    assert specs[0].optim.lr == specs[0].optim.head_lr
    assert run_id(make_spec("none", optim__head_lr=0.5)) != run_id(specs[0])


@given(st.sampled_from(["qv", "vq", "attn", "all", "none"]), st.integers(1, 64))
def test_normalising_twice_changes_nothing(targets: str, rank: int) -> None:
    once = normalise(put(put(RUN, "lora.targets", targets), "lora.rank", rank))
    assert normalise(once) == once


@given(st.integers(1, 30), st.data())
def test_layer_ranges_are_inclusive(num_layers: int, data: st.DataObject) -> None:
    last = data.draw(st.integers(0, num_layers - 1))
    first = data.draw(st.integers(0, last))
    assert list(layer_range(f"{first}-{last}", num_layers)) == list(range(first, last + 1))
    assert list(layer_range(None, num_layers)) == list(range(num_layers))


@pytest.mark.parametrize("text", ["0-6", "6-6", "2-1", "1", "x"])
def test_a_range_outside_the_model_is_refused_with_its_layers(text: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed: a-b with 0 <= a <= b <= 5, or null for all layers"):
        layer_range(text, 6)


@pytest.mark.parametrize("key", ["model.pooling", "lora.init", "optim.schedule", "trainer.dtype"])
def test_every_choice_of_a_literal_is_accepted(key: str) -> None:
    group, name = key.split(".")
    for choice in get_args(get_type_hints(GROUPS[group])[name]):
        spec = put(RUN, key, choice)
        assert normalise(spec) == spec
