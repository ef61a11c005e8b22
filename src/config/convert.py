"""DictConfig to RunSpec and Settings: the one place where Hydra stops."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.schema import GROUPS, Config, without_none
from src.config.slurm import to_slurm
from src.config.words import allowed_type, hint_of
from src.errors import ConfigError
from src.spec import (
    FrozenMap,
    HalvingSpec,
    RunSpec,
    Settings,
    TrackingSpec,
    check_settings,
    default_study,
    normalise,
    run_spec_from_dict,
)
from src.spec.hints import hints_of
from src.spec.identity import GROUPS as SPECS

Values = dict[str, Any]
MAPPINGS = [
    (group, f.name)
    for group, spec in SPECS.items()
    for f in dataclasses.fields(spec)
    if get_origin(without_none(hints_of(spec)[f.name])[0]) is FrozenMap
]


def to_spec(cfg: DictConfig | Values) -> RunSpec:
    """The checked, canonical RunSpec of a composed config.

    Args:
        cfg: itself, or its `resolved` values.

    Raises:
        ConfigError: a value is missing or not allowed.
    """
    values = _values(cfg, RunSpec)
    for group, name in MAPPINGS:
        _check_mapping(f"{group}.{name}", values[group][name])
    spec = normalise(run_spec_from_dict(values))
    _refuse_missing(resolved(cfg))
    return spec


def to_settings(cfg: DictConfig | Values, spec: RunSpec | None = None) -> Settings:
    """The checked Settings of a composed config; ``study: null`` becomes the default study.

    Args:
        cfg: itself, or its `resolved` values.
        spec: what `to_spec` makes of it, where that is known.

    Raises:
        ConfigError: a value is missing or not allowed.
    """
    values = _values(cfg, Settings)
    for folder in ("output_dir", "cache_dir"):
        values[folder] = str(Path(values[folder]).expanduser())
    values["study"] = values["study"] or default_study(spec or to_spec(cfg))
    nested = {
        "tracking": TrackingSpec(**values["tracking"]),
        "halving": HalvingSpec(**values["halving"]),
        "slurm": to_slurm(values["slurm"]),
    }
    return check_settings(Settings(**{**values, **nested}))


def _check_mapping(key: str, value: Any) -> None:
    """What the schema leaves unchecked.

    Raises:
        ConfigError: not a mapping with values of the type that the spec says.
    """
    kind = get_args(without_none(hint_of(key))[0])[0]
    good = isinstance(value, Mapping) and value and all(type(item) is kind for item in value.values())
    if value is not None and not good:
        raise ConfigError(key, value, allowed_type(key))


def resolved(cfg: DictConfig | Values) -> Values:
    """Plain values of a composed config, interpolations resolved.

    Raises:
        ConfigError: an interpolation that cannot be resolved.
    """
    if not isinstance(cfg, DictConfig):
        return cfg
    try:
        container = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise _unresolved(cfg, error) from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _values(cfg: DictConfig | Values, spec: type[Any]) -> Values:
    """Plain values of the keys that a spec has."""
    values = resolved(cfg)
    _refuse_unknown(values, Config)
    return {f.name: _filled(f.name, values[f.name]) for f in dataclasses.fields(spec)}


def _refuse_unknown(values: Mapping[Any, Any], twin: Any, prefix: str = "") -> None:
    """Hydra lets ``+lora.foo=1`` add any key.

    Raises:
        ConfigError: a key that the schema lacks.
    """
    groups = _groups_of(twin)
    for key, value in values.items():
        if key not in groups:
            raise ConfigError(f"{prefix}{key}", value, f"only the keys {', '.join(groups)}")
        group = groups[key]
        if group is not None and isinstance(value, Mapping):
            _refuse_unknown(value, group, f"{prefix}{key}.")


@functools.cache
def _groups_of(twin: Any) -> Mapping[str, Any]:
    """Keys of a schema, each with its own schema where it is a group."""
    return {f.name: f.type if dataclasses.is_dataclass(f.type) else None for f in dataclasses.fields(twin)}


def _filled(key: str, value: Any) -> Any:
    """A missing text of a group is passed on as None, since the spec's own check of it says best what is allowed.

    Raises:
        ConfigError: something else is missing.
    """
    if isinstance(value, dict):
        return {name: _filled(f"{key}.{name}", inner) for name, inner in value.items()}
    if value != MISSING:
        return value
    if key.partition(".")[0] not in GROUPS or hint_of(key) in (int, float, bool):
        raise ConfigError(key, None, allowed_type(key))
    return None


def _refuse_missing(values: Values) -> None:
    """What `_filled` has passed on, and no check has found.

    Raises:
        ConfigError: a key of a group is missing.
    """
    for group in GROUPS:
        for name, value in values[group].items():
            if value == MISSING:
                raise ConfigError(f"{group}.{name}", None, allowed_type(f"{group}.{name}"))


def _unresolved(cfg: DictConfig, error: OmegaConfBaseException) -> ConfigError:
    key = error.full_key or ""
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return ConfigError(key, raw, f"{allowed_type(key)} ({str(error).splitlines()[0]})")
