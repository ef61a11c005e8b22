"""What a config must not do: name code to run, import modules, read secrets, or write where it pleases.

Hydra calls whatever stands under ``_target_`` in its callbacks, launcher and sweeper, what its logging configs name,
and imports the packages of its search path; its own list of forbidden names is no boundary. Configs come from files
that people pass on, so all of it is refused in one place: `GuardedLoader` takes the place of Hydra's loader, looks at
every config that it composes, before anything is made of it or written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from src.errors import ConfigError, HarnessError, brief, hide_secrets

REPOSITORY = Path(__file__).resolve().parents[2]
# Hydra itself takes launchers and sweepers from these packages only, and only classes that it has found there.
_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
TARGETS = {
    "hydra.launcher._target_": _PLUGINS,
    "hydra.sweeper._target_": _PLUGINS,
    "hydra.sweeper.sampler._target_": ("optuna.samplers.",),
}
# Shell text by nature: on the command line a person writes it, in a file from elsewhere it is someone else's.
SHELL = ("setup", "python", "srun_args", "additional_parameters")
HANDLERS = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
LOGGING_KEYS = {
    "formatters": {"format", "datefmt", "style"},
    "handlers": {"class", "formatter", "level", "stream", "filename", "mode", "delay", "encoding"},
}
# Of environment variables that hold keys and passwords.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)
_URL = re.compile(r"[\w+.-]+://")
_NO_CODE = "no name of code: configs hold values, and what runs is chosen by groups such as hydra/launcher"
_NO_DEFAULT = object()


class GuardedLoader(ConfigLoaderImpl):
    """Hydra's loader; a config that it gives names no code."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose, then check.

        Raises:
            ConfigError: what is composed names code, or wants to write or read what it must not.
            hydra.errors.HydraException: it cannot be composed; also where Hydra raises another error.
        """
        check_name("--config-name", config_name)
        try:
            config = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        except (HydraException, OmegaConfBaseException, HarnessError):
            raise
        except Exception as error:  # the parsers of YAML and of overrides have many more
            told = f"The config cannot be composed ({type(error).__name__}: {brief(str(error), 300)})."
            own = isinstance(error, ValueError) and str(error).startswith("Config group override")
            raise ConfigCompositionException(str(error) if own else told).with_traceback(error.__traceback__) from None
        check_config(config)
        return config

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: Any, repo: Any) -> None:
        loaded = None if config_name is None else repo.load_config(config_path=config_name)
        inside = None if loaded is None else OmegaConf.select(loaded.config, "hydra.searchpath")
        typed = [o.value() for o in parsed_overrides if o.get_key_element() == "hydra.searchpath"]
        for entry in [entry for given in (inside, *typed) if given is not None for entry in given]:
            if _URL.match(str(entry)) and not str(entry).startswith("file://"):
                raise ConfigError(
                    "hydra.searchpath", entry, "folders; a package would be imported, which runs its code"
                )
        super()._process_config_searchpath(config_name, parsed_overrides, repo)


def check_config(config: DictConfig) -> None:
    """Raises:
    ConfigError: see the top of this file.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    _check_targets(raw)
    _check_secrets(raw)
    hydra = raw.get("hydra")
    if not isinstance(hydra, Mapping):
        return
    _check_nodes(hydra)
    for node in ("launcher", "sweeper"):
        _check_targets(_resolved(config, node), f"hydra.{node}.")
        _check_launched(hydra, node)
    for group, choice in hydra["runtime"]["choices"].items():
        for name in choice if isinstance(choice, list) else [choice]:
            check_name(str(group), name)


def check_name(key: str, name: object) -> None:
    """Raises:
    ConfigError: the name of a file that does not lie in conf/ or another folder of the search path.
    """
    if isinstance(name, str) and (name.startswith("/") or ".." in name.split("/") or "\0" in name or len(name) > 200):
        raise ConfigError(key, name, "the name of a file in conf/ or sweeps/, without .. and not absolute")


def safe_env(key: str, default: Any = _NO_DEFAULT) -> Any:
    """The resolver ``oc.env``, which gives no keys and passwords: configs are written to disk and sent to W&B.

    Raises:
        ValueError: the name of a secret.
    """
    if _SECRET.search(key):
        raise ValueError(f"{key} may be a secret, and configs are written to disk; they cannot hold it")
    return oc.env(key) if default is _NO_DEFAULT else oc.env(key, default)


def _check_targets(value: Any, prefix: str = "") -> None:
    for key, found in _walk(value, prefix):
        name = key.rpartition(".")[2]
        allowed = TARGETS.get(key)
        if allowed is not None and isinstance(found, str) and found.startswith(allowed):
            continue
        if name == "_target_" or (isinstance(found, str) and "_target_" in found and "${" in found):
            _refuse(key, found)


def _check_secrets(raw: Any) -> None:
    """A config is written to disk, with the overrides as typed, and sent to W&B: a password has no place in it."""
    for key, found in _walk(raw, ""):
        if isinstance(found, str) and hide_secrets(found) != found:
            where = "an override" if key.startswith("hydra.overrides") else key
            allowed = "text without passwords and keys, as configs are written to disk"
            raise ConfigError(where, hide_secrets(found), allowed)


def _walk(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values at any depth."""
    waiting: list[tuple[str, Any]] = [(prefix.rstrip("."), value)]
    while waiting:
        key, item = waiting.pop()
        if isinstance(item, Mapping):
            inner = [(f"{key}.{name}".lstrip("."), found) for name, found in item.items()]
        else:
            inner = [(f"{key}.{place}", found) for place, found in enumerate(item)] if isinstance(item, list) else []
        waiting += inner
        yield from inner


def _check_nodes(hydra: Mapping[str, Any]) -> None:
    job = hydra["job"]
    if hydra["callbacks"]:
        _refuse("hydra.callbacks", hydra["callbacks"])
    for name in ("env_set", "env_copy"):
        if job[name]:
            allowed = "nothing; set variables in the shell that starts the command"
            raise ConfigError(f"hydra.job.{name}", list(job[name]), allowed)
    for key, folder in (
        ("hydra.output_subdir", hydra["output_subdir"]),
        ("hydra.sweep.subdir", hydra["sweep"]["subdir"]),
    ):
        if isinstance(folder, str) and (folder.startswith("/") or ".." in folder.split("/")):
            raise ConfigError(key, folder, "a folder below hydra.run.dir or hydra.sweep.dir")
    for name in ("job_logging", "hydra_logging"):
        _check_logging(f"hydra.{name}", hydra[name])


def _check_logging(key: str, node: Any) -> None:
    """Python's dictConfig calls what stands under ``()``, ``class`` and ``factory``, and imports what follows ext://."""
    for name, value in _walk(node, key):
        last = name.rpartition(".")[2]
        handler = last == "class" and name.split(".")[-3:-2] == ["handlers"] and value in HANDLERS
        elsewhere = last == "filename" and not str(value).startswith(("${hydra.", "hydra-$"))
        named = last in {"()", "factory", "class"} and not handler
        if named or elsewhere or (isinstance(value, str) and "://" in value and value not in STREAMS):
            _refuse(name, value)
    for part, allowed in LOGGING_KEYS.items():
        for name, entry in (node.get(part) or {}).items() if isinstance(node, Mapping) else ():
            if not isinstance(entry, Mapping) or not set(entry) <= allowed:
                raise ConfigError(f"{key}.{part}.{name}", entry, f"the keys {', '.join(sorted(allowed))}")


def _resolved(config: DictConfig, node: str) -> Any:
    """As Hydra hands it to the plugin: an interpolation can build what its text does not show."""
    try:
        return OmegaConf.to_container(config.hydra[node], resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        text = f"values that can be resolved ({str(error).splitlines()[0]})"
        raise ConfigError(f"hydra.{node}", brief(str(config.hydra[node])), text) from error


def _check_launched(hydra: Mapping[str, Any], node: str) -> None:
    """Text of a launcher becomes lines of a script that the cluster runs."""
    own = hydra[node] if isinstance(hydra[node], Mapping) else {}
    if node != "launcher":
        return
    for key, value in _walk(own, "hydra.launcher"):
        if isinstance(value, str) and not value.isprintable() and key.split(".")[2] not in SHELL:
            raise ConfigError(key, value, "text on one line")
    foreign = [source["path"] for source in hydra["runtime"]["config_sources"] if _is_foreign(source)]
    typed = " ".join(hydra["overrides"]["hydra"])
    for name in SHELL:
        if own.get(name) and foreign and f"hydra.launcher.{name}" not in typed:
            allowed = f"nothing in a file of {foreign[0]}; commands stand on the command line or in conf/"
            raise ConfigError(f"hydra.launcher.{name}", own[name], allowed)


def _is_foreign(source: Mapping[str, str]) -> bool:
    return source["schema"] == "file" and not Path(source["path"]).resolve().is_relative_to(REPOSITORY)


def _refuse(key: str, value: object) -> NoReturn:
    raise ConfigError(key, value, _NO_CODE)


def refuse_rerun(file: str, overrides: Sequence[str]) -> NoReturn:
    """In place of Hydra's ``--experimental-rerun``, which unpickles a file, and so runs what stands in it."""
    raise ConfigError("--experimental-rerun", file, "nothing; the same command again continues a study")
