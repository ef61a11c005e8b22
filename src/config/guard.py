"""What a config must not do: name code to run, import modules, read secrets, or write where it pleases.

Hydra calls whatever stands under ``_target_`` in its callbacks, launcher and sweeper, what its logging configs name,
and imports the packages of its search path; its own list of forbidden names is no boundary. Configs come from files
that people pass on, so all of it is refused in one place: `GuardedLoader` takes the place of Hydra's loader, looks at
every config that it composes, before anything is made of it or written.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from src.config.foreign import check_file, check_folders, is_foreign
from src.config.log_config import check_logging
from src.config.nodes import value_at, walk
from src.errors import ConfigError, HarnessError, brief, hide_secrets

# Hydra itself takes launchers and sweepers from these packages only, and only classes that it has found there.
_PLUGIN = re.compile(r"(hydra_plugins|hydra\._internal\.core_plugins)\.[\w.]+")
TARGETS = {
    "hydra.launcher._target_": _PLUGIN,
    "hydra.sweeper._target_": _PLUGIN,
    "hydra.sweeper.sampler._target_": re.compile(r"optuna\.samplers\.[A-Z]\w*"),
}
# Lists of lines, or arguments that are quoted; all other text of a launcher becomes one line of a script.
_LINES = ("setup", "python", "srun_args", "additional_parameters")
# Nodes that Hydra reads, or fills in, by the names within; one interpolation in place of a node could hide them all.
_NODES = ("hydra", "hydra.job", "hydra.run", "hydra.sweep", "hydra.runtime", "hydra.overrides")
_JOB_NAME = re.compile(r"\w[\w.+-]{0,99}", re.ASCII)
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
        self._placed: list[str] = []
        try:
            config = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
            check_config(config, self._placed, overrides)
        except (HydraException, OmegaConfBaseException, HarnessError):
            raise
        except Exception as error:  # the parsers of YAML and of overrides have many more
            told = f"The config cannot be composed ({type(error).__name__}: {brief(str(error), 300)})."
            own = isinstance(error, ValueError) and str(error).startswith("Config group override")
            raise ConfigCompositionException(str(error) if own else told).with_traceback(error.__traceback__) from None
        return config

    def _load_single_config(self, default: Any, repo: Any) -> Any:
        loaded = super()._load_single_config(default, repo)
        if is_foreign(loaded.path):
            self._placed += check_file(loaded.path, OmegaConf.to_container(loaded.config, resolve=False))
        return loaded

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


def check_config(config: DictConfig, placed: Sequence[str] = (), overrides: Sequence[str] = ()) -> None:
    """Args:
        config: as Hydra composes it.
        placed: keys of folders that files from elsewhere set.
        overrides: as typed.

    Raises:
        ConfigError: see the top of this file.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    _check_targets(raw)
    _check_secrets(raw)
    for key in _NODES:
        if not isinstance(value_at(raw, key), Mapping):
            raise ConfigError(key, value_at(raw, key), "a mapping of values, not an interpolation")
    hydra = raw["hydra"]
    for name in ("job_logging", "hydra_logging"):
        check_logging(f"hydra.{name}", hydra[name])
    if hydra["runtime"]["output_dir"] != "???":
        raise ConfigError("hydra.runtime.output_dir", hydra["runtime"]["output_dir"], "nothing; Hydra fills it in")
    for group, choice in hydra["runtime"]["choices"].items():
        for name in choice if isinstance(choice, list) else [choice]:
            check_name(str(group), name)
    with _as_used(config) as used:
        _check_nodes(used)
        _check_plugins(used)
        check_folders([(key, _resolved(used, key)) for key in placed], _resolved(used, "output_dir"), overrides)


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
    for key, found in walk(value, prefix):
        name = key.rpartition(".")[2]
        allowed = TARGETS.get(key)
        if allowed is not None and isinstance(found, str) and allowed.fullmatch(found):
            continue
        if name == "_target_" or (isinstance(found, str) and "_target_" in found and "${" in found):
            _refuse(key, found)


def _check_secrets(raw: Any) -> None:
    """A config is written to disk, with the overrides as typed, and sent to W&B: a password has no place in it."""
    for key, found in walk(raw):
        if isinstance(found, str) and hide_secrets(found) != found:
            where = "an override" if key.startswith("hydra.overrides") else key
            allowed = "text without passwords and keys, as configs are written to disk"
            raise ConfigError(where, hide_secrets(found), allowed)


@contextmanager
def _as_used(config: DictConfig) -> Iterator[DictConfig]:
    """A copy with what Hydra fills in when a job starts, to which ``${hydra:...}`` refers meanwhile."""
    used = copy.deepcopy(config)
    with flag_override(used, ["struct", "readonly"], [False, False]):
        for key, value in (("job.num", 0), ("job.id", "0"), ("runtime.output_dir", "/unknown")):
            if OmegaConf.is_missing(OmegaConf.select(used.hydra, key.split(".")[0]), key.split(".")[1]):
                OmegaConf.update(used.hydra, key, value)
    current = HydraConfig.instance()
    before, current.cfg = current.cfg, cast(Any, used)
    try:
        yield used
    finally:
        current.cfg = before


def _check_nodes(used: DictConfig) -> None:
    """As Hydra hands them on: an interpolation can build what its text does not show."""
    if callbacks := _resolved(used, "hydra.callbacks"):
        _refuse("hydra.callbacks", callbacks)
    for key in ("hydra.job.env_set", "hydra.job.env_copy"):
        if given := _resolved(used, key):
            names = list(given) if isinstance(given, dict | list) else "no list of names"
            raise ConfigError(key, names, "nothing; set variables in the shell that starts the command")
    for key in ("hydra.output_subdir", "hydra.sweep.subdir"):
        folder = str(_resolved(used, key) or ".")
        if folder.startswith("/") or "\0" in folder or ".." in folder.split("/"):
            raise ConfigError(key, folder, "a folder below hydra.run.dir or hydra.sweep.dir")
    name = _resolved(used, "hydra.job.name")
    if not _JOB_NAME.fullmatch(str(name)):
        raise ConfigError("hydra.job.name", name, "a name of letters, digits, - and _; log files have it")


def _check_plugins(used: DictConfig) -> None:
    """Likewise; text of a launcher becomes lines of a script that the cluster runs."""
    launcher, sweeper = _resolved(used, "hydra.launcher"), _resolved(used, "hydra.sweeper")
    _check_targets(launcher, "hydra.launcher")
    _check_targets(sweeper, "hydra.sweeper")
    if isinstance(sweeper, Mapping) and sweeper.get("custom_search_space"):
        _refuse("hydra.sweeper.custom_search_space", sweeper["custom_search_space"])
    for key, value in walk(launcher, "hydra.launcher"):
        if isinstance(value, str) and not value.isprintable() and key.split(".")[2] not in _LINES:
            raise ConfigError(key, value, "text on one line")


def _resolved(used: DictConfig, key: str) -> Any:
    """A plain value; None where there is none."""
    try:
        node = OmegaConf.select(used, key, throw_on_missing=False)
        if not OmegaConf.is_config(node):
            return node
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=False)
    except (OmegaConfBaseException, RecursionError) as error:
        text = f"values that can be resolved ({brief(str(error).splitlines()[0])})"
        raise ConfigError(key, value_at(OmegaConf.to_container(used, resolve=False), key), text) from error


def _refuse(key: str, value: object) -> NoReturn:
    raise ConfigError(key, value, _NO_CODE)


def refuse_rerun(file: str, overrides: Sequence[str]) -> NoReturn:
    """In place of Hydra's ``--experimental-rerun``, which unpickles a file, and so runs what stands in it."""
    raise ConfigError("--experimental-rerun", file, "nothing; the same command again continues a study")
