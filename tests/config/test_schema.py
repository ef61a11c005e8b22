"""The twins have the specs' keys, types and defaults, and Hydra finds them and the launcher."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigAttributeError, ValidationError

from src.config import schema
from src.config.compose import compose_config
from src.spec import LoraSpec, ModelSpec, OptimSpec, RunSpec, Settings, TaskSpec, TrackingSpec, TrainerSpec

SPECS = [ModelSpec, TaskSpec, LoraSpec, OptimSpec, TrainerSpec, TrackingSpec]


def twin_of(spec: type[Any]) -> Any:
    return getattr(schema, spec.__name__.removesuffix("Spec") + "Config")


@pytest.mark.parametrize("spec", SPECS)
def test_twin_has_the_keys_and_defaults_of_its_spec(spec: type[Any]) -> None:
    defaults = {
        f.name: f.default if f.default is not dataclasses.MISSING else MISSING for f in dataclasses.fields(spec)
    }
    assert {f.name: f.default for f in dataclasses.fields(twin_of(spec))} == defaults


def test_top_level_has_the_keys_of_run_spec_and_settings_and_no_others() -> None:
    keys = {f.name for f in dataclasses.fields(schema.Config)}
    assert keys == {f.name for spec in (RunSpec, Settings) for f in dataclasses.fields(spec)}


@pytest.mark.parametrize(
    ("key", "value"),
    [("lora.rank", "abc"), ("lora.rank", 1.5), ("optim.lr", None), ("rerun", "maybe"), ("task.text", None)],
)
def test_wrong_types_are_refused(key: str, value: object) -> None:
    config = OmegaConf.structured(schema.Config)
    with pytest.raises(ValidationError):
        OmegaConf.update(config, key, value)


@pytest.mark.parametrize("key", ["lora.layers", "trainer.max_steps", "optim.clip", "study", "task.train_size"])
def test_what_may_be_none_takes_null(key: str) -> None:
    config = OmegaConf.structured(schema.Config)
    OmegaConf.update(config, key, None)
    assert OmegaConf.select(config, key) is None


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ConfigAttributeError):
        OmegaConf.structured(schema.Config).lora.foo = 1


@pytest.mark.parametrize("spec", SPECS)
def test_twins_are_pickled_by_name(spec: type[Any]) -> None:
    assert pickle.loads(pickle.dumps(twin_of(spec))) is twin_of(spec)


def test_registering_again_changes_nothing() -> None:
    schema.register()
    before = dict(ConfigStore.instance().repo)
    schema.register()
    assert ConfigStore.instance().repo == before
    names = [launcher.__name__ for launcher in Plugins.instance().discover(Launcher)]
    assert names.count("LanesLauncher") == 1


@pytest.mark.parametrize(
    ("overrides", "rank", "budget"),
    [
        ([], 8, None),
        (["lora.budget=4608"], None, 4608),
        (["lora.rank=3"], 3, None),
        (["lora.rank=3", "lora.budget=9"], 3, 9),
    ],
)
def test_default_rank_gives_way_to_a_budget_only(overrides: list[str], rank: int | None, budget: int | None) -> None:
    lora = compose_config(overrides).lora
    assert (lora.rank, lora.budget) == (rank, budget)
