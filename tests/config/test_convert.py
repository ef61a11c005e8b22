"""From config to specs: exact, complete, and with an error that says what is allowed."""

from __future__ import annotations

import dataclasses
import string
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from src.config import to_settings, to_spec
from src.config.compose import compose_config
from src.config.schema import Config
from src.errors import ConfigError
from src.spec import (
    LETTERS,
    METRICS,
    SIZED,
    FrozenMap,
    LoraSpec,
    MethodName,
    MethodSpec,
    ModelSpec,
    OptimSpec,
    RunSpec,
    Settings,
    TaskSpec,
    TrackingSpec,
    TrainerSpec,
    normalise,
    run_id,
    to_dict,
)
from src.spec.run import DType, Fill, Init, Pooling, Schedule
from src.spec.targets import STACKS

# Without $, which begins an interpolation in a config.
PRINTABLE = string.printable.strip().replace("$", "") + " äß€"
TEXT = st.text(PRINTABLE, min_size=1).filter(lambda text: text != "???" and "://" not in text)
COUNT = st.integers(1, 10**12)
SHARE = st.floats(0, 1, exclude_max=True)
POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False)
SEED = st.integers(0, 2**32 - 1)
# What a rank of lora.ranks can be given to: letters, layers, or both.
PLACES = st.sampled_from(["q", "kv", "3", "0-5", "q/2", "ugd/10-20"])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def tasks(draw: st.DrawFn) -> TaskSpec:
    kind = draw(st.sampled_from(sorted(METRICS)))
    writes = kind in {"causal_lm", "seq2seq"}
    template = TEXT if writes else maybe(TEXT)
    sizes = dict.fromkeys(("train_size", "validation_size", "test_size"), maybe(COUNT))
    optional = dict.fromkeys(("test_path", "subset", "text_pair", "validation_split", "test_split"), maybe(TEXT))
    return draw(
        st.builds(
            TaskSpec,
            path=TEXT,
            kind=st.just(kind),
            text=TEXT,
            label=TEXT,
            train_split=TEXT,
            prompt=template,
            completion=template,
            split_seed=SEED,
            max_length=st.integers(4, 10**6),
            metric=st.sampled_from(METRICS[kind]),
            image=st.none() if writes else maybe(TEXT),
            generate=st.booleans() if writes else st.just(False),
            beams=COUNT,
            length_penalty=st.floats(allow_nan=False, allow_infinity=False),
            no_repeat_ngram=COUNT,
            max_new_tokens=COUNT,
            **sizes,
            **optional,
        )
    )


@st.composite
def loras(draw: st.DrawFn) -> LoraSpec:
    letters = st.lists(st.sampled_from(LETTERS), min_size=1, unique=True).map("".join)
    has_rank = draw(st.booleans())
    return draw(
        st.builds(
            LoraSpec,
            targets=letters | st.sampled_from(["none", "attn", "mlp", "all"]),
            rank=COUNT if has_rank else st.none(),
            budget=st.none() if has_rank else COUNT,
            alpha=POSITIVE,
            dropout=SHARE,
            init=st.sampled_from(get_args(Init)),
            layers=maybe(st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda ends: f"{ends[0]}-{ends[1]}")),
            dora=st.booleans(),
            rslora=st.booleans(),
            b_lr_ratio=POSITIVE,
            ranks=maybe(st.dictionaries(PLACES, COUNT, min_size=1).map(FrozenMap)) if has_rank else st.none(),
            fill=st.just("none") if has_rank else st.sampled_from(get_args(Fill)),
            stacks=maybe(st.lists(st.sampled_from(STACKS), min_size=1, unique=True).map("+".join)),
        )
    )


@st.composite
def methods(draw: st.DrawFn, lora: LoraSpec) -> MethodSpec:
    """One that has what it needs: a size exactly where there is no budget."""
    name = draw(st.sampled_from(get_args(MethodName)))
    if name == "lora_prefix" and lora.targets == "none":
        name = "prefix"
    sized = name == "lora_prefix" or (name in SIZED and lora.budget is None)
    return MethodSpec(name, draw(COUNT) if sized else None, draw(st.booleans()))


@st.composite
def specs(draw: st.DrawFn) -> RunSpec:
    task = draw(tasks())
    if task.image is not None:
        task = dataclasses.replace(task, text_pair=None)
    model = st.builds(
        ModelSpec,
        path=TEXT,
        revision=maybe(TEXT),
        pooling=st.sampled_from(get_args(Pooling) if task.image is None else ("mean", "first")),
        projections=maybe(st.dictionaries(st.sampled_from(LETTERS), TEXT, min_size=1).map(FrozenMap)),
    )
    optim = st.builds(
        OptimSpec,
        lr=POSITIVE,
        head_lr=POSITIVE,
        weight_decay=POSITIVE,
        beta1=SHARE,
        beta2=SHARE,
        eps=POSITIVE,
        schedule=st.sampled_from(get_args(Schedule)),
        warmup=SHARE,
        clip=maybe(POSITIVE),
        label_smoothing=st.just(0.0) if task.kind == "regression" else SHARE,
    )
    trainer = st.builds(
        TrainerSpec,
        epochs=COUNT,
        max_steps=maybe(COUNT),
        batch_size=st.integers(8, 64),
        accumulation=st.integers(1, 8),
        eval_every=maybe(COUNT),
        patience=maybe(COUNT),
        dtype=st.sampled_from(get_args(DType)),
        eval_batch_size=COUNT,
        checkpoint_every=COUNT,
        gradient_checkpointing=st.booleans(),
        cache_frozen=st.booleans(),
    )
    lora = draw(loras())
    return normalise(RunSpec(draw(model), task, lora, draw(optim), draw(trainer), draw(SEED), draw(methods(lora))))


def config_of(*parts: dict[str, Any]) -> DictConfig:
    config = OmegaConf.structured(Config)
    for part in parts:
        config = OmegaConf.merge(config, part)
    return config


@given(specs())
def test_a_spec_survives_the_config_unchanged(spec: RunSpec) -> None:
    again = to_spec(config_of(to_dict(spec), {"output_dir": "outputs", "cache_dir": "cache"}))
    assert again == spec
    assert run_id(again) == run_id(spec)


def test_settings_survive_the_config_unchanged() -> None:
    settings = Settings(
        "study", "out", "/cache", "cuda:1", True, 3, 0.5, TrackingSpec("none", "offline", "p", "e", 7, 1, 2)
    )
    spec = to_dict(to_spec(compose_config()))
    assert to_settings(config_of(spec, to_dict(settings))) == settings


def test_study_follows_from_model_and_task_unless_given() -> None:
    assert to_settings(compose_config()).study == "minilm-r52"
    assert to_settings(compose_config(["task=sst2", "model=gpt2"])).study == "gpt2-sst2"
    assert to_settings(compose_config(["study=mine"])).study == "mine"


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LORA_SWEEP_CACHE", raising=False)
    assert to_settings(compose_config()).cache_dir == str(tmp_path / ".cache/lora-sweep")
    monkeypatch.setenv("LORA_SWEEP_CACHE", "/shared")
    assert to_settings(compose_config()).cache_dir == "/shared"


@pytest.mark.parametrize(
    ("override", "key", "allowed"),
    [
        ("task.path=???", "task.path", "asset:<name>"),
        ("task.kind=???", "task.kind", "classification"),
        ("lora.targets=???", "lora.targets", "letters of qkvougd"),
        ("lora.alpha=???", "lora.alpha", "a number"),
        ("seed=???", "seed", "a whole number"),
        ("output_dir=???", "output_dir", "text"),
        ("tracking.log_every=???", "tracking.log_every", "a whole number"),
        ("lora.alpha=${nowhere}", "lora.alpha", "a number"),
        ("+lora.foo=1", "lora.foo", "targets, rank, budget"),
        ("+foo=1", "foo", "model, task, lora"),
        ("model.pooling=max", "model.pooling", "mean or first or last"),
        ("lora.rank=null", "lora.rank, lora.budget", "exactly one"),
        ("optim.lr=0", "optim.lr", "above 0"),
    ],
)
def test_errors_name_key_and_what_is_allowed(override: str, key: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config = compose_config([override])
        to_spec(config), to_settings(config)
    assert caught.value.key == key
    assert allowed in caught.value.allowed


def test_rank_and_budget_together_are_refused_and_either_alone_is_fine() -> None:
    assert to_spec(compose_config(["lora.budget=4608"])).lora.rank is None
    assert to_spec(compose_config()).lora.rank == 8
    with pytest.raises(ConfigError, match="exactly one"):
        to_spec(compose_config(["lora.budget=4608", "lora.rank=8"]))
