"""Hydra's typed config, made from the frozen specs, so that every key is written once (src/spec/run.py).

OmegaConf needs mutable dataclasses that know no Literal. Each spec therefore gets a mutable twin with the same
fields: Literal becomes str (its values are checked in src/config/convert.py), a field without a default becomes
mandatory. A wrong type or an unknown key fails when Hydra composes.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import operator
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra._internal import hydra as hydra_internals
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from src.config.guard import GuardedLoader, refuse_rerun, safe_env
from src.spec import (
    FrozenMap,
    HalvingSpec,
    LoraSpec,
    MethodSpec,
    ModelSpec,
    OptimSpec,
    RunSpec,
    Settings,
    SlurmSpec,
    TaskSpec,
    TrackingSpec,
    TrainerSpec,
)

SCHEMA = "schema"
PLUGINS = Path(__file__).parents[1] / "hydra_plugins"
Field = tuple[str, Any, Any]


def register() -> None:
    """Make the schema, the resolvers, the guard and the launcher known to Hydra; harmless when called again."""
    ConfigStore.instance().store(name=SCHEMA, node=Config)
    OmegaConf.register_new_resolver("oc.env", safe_env, replace=True)
    hydra_internals.ConfigLoaderImpl = GuardedLoader  # type: ignore[misc]
    # The function that Hydra exports has the module's name.
    importlib.import_module("hydra.main")._get_rerun_conf = refuse_rerun  # type: ignore[attr-defined]
    OmegaConf.register_new_resolver("unless_given", _unless_given, replace=True)
    _extend_hydra_plugins()


def without_none(hint: Any) -> tuple[Any, bool]:
    """A type hint less its None, and whether it had one: ``int | None`` is (int, True)."""
    parts = alternatives(hint)
    inner = [part for part in parts if part is not type(None)]
    return (inner[0], True) if len(inner) == 1 < len(parts) else (hint, False)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The parts of a union of types, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _twin(spec: type[Any]) -> Any:
    """Mutable dataclass with a spec's fields; ModelSpec gives ModelConfig."""
    return _dataclass(spec.__name__.removesuffix("Spec") + "Config", _fields(spec))


def _fields(spec: type[Any], **twins: Any) -> list[Field]:
    hints = get_type_hints(spec)
    return [
        (f.name, twins[f.name], dataclasses.field(default_factory=twins[f.name]))
        if f.name in twins
        else (f.name, _omegaconf_type(hints[f.name]), MISSING if f.default is dataclasses.MISSING else f.default)
        for f in dataclasses.fields(spec)
    ]


def _omegaconf_type(hint: Any) -> Any:
    inner, optional = without_none(hint)
    plain = functools.reduce(operator.or_, [str if get_origin(t) is Literal else t for t in alternatives(inner)])
    # Hydra merges what is given on the command line into a mapping that is there, and refuses its new keys. So a
    # mapping is untyped and null by default; src/config/convert.py checks it.
    if get_origin(inner) is FrozenMap:
        return Any
    return plain | None if optional else plain


def _dataclass(name: str, fields: list[Field]) -> Any:
    # With its module set, the class is pickled by name, which submitit's workers need.
    return dataclasses.make_dataclass(name, fields, namespace={"__module__": __name__})


def _unless_given(other: object, value: Any) -> Any:
    """The resolver ``${unless_given:other,value}``: `value`, but null where `other` has a value."""
    return value if other is None else None


def _extend_hydra_plugins() -> None:
    """Put our plugin folder on the namespace package hydra_plugins, the only one that Hydra loads plugins from.

    It exists where another plugin is installed; a folder of an uninstalled clone is never part of it.
    """
    if importlib.util.find_spec("hydra_plugins") is None:
        empty = ModuleSpec("hydra_plugins", None, is_package=True)
        sys.modules["hydra_plugins"] = importlib.util.module_from_spec(empty)
    package = importlib.import_module("hydra_plugins")
    if str(PLUGINS) not in package.__path__:
        package.__path__ = [*package.__path__, str(PLUGINS)]


ModelConfig = _twin(ModelSpec)
TaskConfig = _twin(TaskSpec)
MethodConfig = _twin(MethodSpec)
LoraConfig = _twin(LoraSpec)
OptimConfig = _twin(OptimSpec)
TrainerConfig = _twin(TrainerSpec)
TrackingConfig = _twin(TrackingSpec)
HalvingConfig = _twin(HalvingSpec)
SlurmConfig = _twin(SlurmSpec)
GROUPS = {
    "model": ModelConfig,
    "task": TaskConfig,
    "method": MethodConfig,
    "lora": LoraConfig,
    "optim": OptimConfig,
    "trainer": TrainerConfig,
}
SETTINGS_GROUPS = {"tracking": TrackingConfig, "halving": HalvingConfig, "slurm": SlurmConfig}
Config = _dataclass(
    "Config",
    [
        *_fields(RunSpec, **GROUPS),
        # null means the study that follows from model and task (src/spec/identity.py).
        ("study", str | None, None),
        *(f for f in _fields(Settings, **SETTINGS_GROUPS) if f[0] != "study"),
    ],
)
