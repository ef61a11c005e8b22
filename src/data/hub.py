"""Data sets of the Hugging Face hub, and plain errors for all that can go wrong in load_dataset."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from datasets import load_dataset
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from src.errors import ConfigError, HarnessError, brief
from src.spec import TaskSpec

# The hub converts every public data set to Parquet on this branch; sets that only have a loading script, which
# datasets no longer runs, are read from there.
PARQUET_BRANCH = "refs/convert/parquet"
_SCRIPT = "scripts are no longer supported"
# What the builders of text and Parquet say of files that hold nothing but names of columns.
_NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0")
MAX_REASON = 500  # characters
_log = logging.getLogger(__name__)


def load_hub(spec: TaskSpec, store: Path) -> Any:
    """All splits of ``owner/name``.

    Raises:
        HarnessError: not a hub id either, unknown to the hub, or no network.
        ConfigError: an unknown subset.
    """
    if spec.path.count("/") != 1 or spec.path.startswith((".", "/", "~")) or "\\" in spec.path:
        raise HarnessError(
            f"There is no data at {brief(spec.path)}: no such file or folder on this machine, and not a hub id "
            "either, which reads owner/name. Allowed are asset:<name>, pydoc, digits, owner/name, a folder, or a csv, "
            "tsv, json, jsonl or parquet file."
        )
    _log.info("Asking the hub for the data set %s.", spec.path)
    with loading(spec.path, store, spec.subset):
        try:
            return load_dataset(spec.path, spec.subset, cache_dir=str(store))
        except RuntimeError as error:
            if _SCRIPT not in str(error):
                raise
            return load_dataset(spec.path, data_dir=spec.subset, revision=PARQUET_BRANCH, cache_dir=str(store))


@contextmanager
def loading(path: str, store: Path, subset: str | None = None) -> Iterator[None]:
    """Quiet progress bars and logs, and one readable error for whatever load_dataset raises.

    datasets, huggingface_hub, pandas and pyarrow raise exceptions of many types here, hence the broad catch.

    Raises:
        ConfigError: an unknown subset.
        HarnessError: anything else.
    """
    try:
        with _quiet():
            yield
    except HarnessError:
        raise
    except Exception as error:
        reason = _reason(error)
        if "BuilderConfig" in reason or "Config name is missing" in reason:
            names = re.search(r"available[^\[]*\[(.*?)\]", reason, re.IGNORECASE)
            listed = names[1].replace("'", "") if names else reason
            raise ConfigError("task.subset", subset, f"a configuration of {path}: {listed}") from error
        raise HarnessError(_explain(path, store, error, reason)) from error


def _explain(path: str, store: Path, error: Exception, reason: str) -> str:
    if isinstance(error, ConnectionError):
        return (
            f"The data set {path} is not in the cache {store} and the hub cannot be reached ({reason}). "
            "Without a network use asset:r52, asset:r8, asset:newsgroups20, pydoc or a local file."
        )
    if any(words in reason for words in _NO_ROWS):
        return f"The data {path} have no rows; they need one for each example."
    return f"The data {path} cannot be loaded: {reason}"


def _reason(error: BaseException) -> str:
    """The innermost message as one paragraph; load_dataset often wraps the telling one."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + " ..."


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled(), are_progress_bars_disabled()
    datasets.disable_progress_bars()
    disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars[0]:
            datasets.enable_progress_bars()
        if not bars[1]:
            enable_progress_bars()
