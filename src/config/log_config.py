"""What the nodes hydra.job_logging and hydra.hydra_logging may hold.

Python's dictConfig calls what stands under ``()``, ``class`` and ``factory``, imports what follows ``ext://``, and
writes chosen text into the file of a handler. Hydra resolves interpolations only then, so none is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from src.config.nodes import walk
from src.errors import ConfigError

# Hydra's own: in the folder of the run, which Hydra sets.
LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"
HANDLERS = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
TOP = frozenset({"version", "formatters", "handlers", "root", "loggers", "disable_existing_loggers", "incremental"})
_LOGGER = frozenset({"level", "handlers", "propagate"})
PARTS = {
    "formatters": frozenset({"format", "datefmt", "style"}),
    "handlers": frozenset({"class", "formatter", "level", "stream", "filename", "mode", "delay", "encoding"}),
    "loggers": _LOGGER,
}
_PLAIN = "Hydra's own, or plain values: no name of code, no interpolation"


def check_logging(key: str, node: Any) -> None:
    """Args:
        key: ``hydra.job_logging`` or ``hydra.hydra_logging``.
        node: what stands there, not resolved.

    Raises:
        ConfigError: it could run code, or write to another file than Hydra's own.
    """
    _check_keys(key, node, TOP)
    for part, allowed in PARTS.items():
        entries = node.get(part) or {}
        if not isinstance(entries, Mapping):
            raise ConfigError(f"{key}.{part}", entries, _PLAIN)
        for name, entry in entries.items():
            _check_keys(f"{key}.{part}.{name}", entry, allowed)
            if part == "handlers":
                _check_handler(f"{key}.{part}.{name}", entry)
    if node.get("root") is not None:
        _check_keys(f"{key}.root", node["root"], _LOGGER)
    for name, value in walk(node, key):
        known = value in STREAMS or (name.endswith(".filename") and value == LOG_FILE)
        if isinstance(value, str) and ("${" in value or "://" in value) and not known:
            raise ConfigError(name, value, _PLAIN)


def _check_keys(key: str, entry: Any, allowed: frozenset[str]) -> None:
    if not isinstance(entry, Mapping):
        raise ConfigError(key, entry, _PLAIN)
    if not set(entry) <= allowed:
        raise ConfigError(key, dict(entry), f"the keys {', '.join(sorted(allowed))}")


def _check_handler(key: str, handler: Mapping[str, Any]) -> None:
    kind = handler.get("class")
    if kind not in HANDLERS:
        raise ConfigError(f"{key}.class", kind, ", ".join(HANDLERS))
    if (kind == "logging.FileHandler" or "filename" in handler) and (
        handler.get("filename") != LOG_FILE or not key.startswith("hydra.job_logging.")
    ):
        raise ConfigError(f"{key}.filename", handler.get("filename"), f"{LOG_FILE} in hydra.job_logging alone")
    if "stream" in handler and handler["stream"] not in STREAMS:
        raise ConfigError(f"{key}.stream", handler["stream"], ", ".join(STREAMS))
