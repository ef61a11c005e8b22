"""Warnings about tracking: each kind of trouble is said once in a process, however many runs it meets."""

from __future__ import annotations

import logging
import threading

LOG = logging.getLogger("src.tracking")
_SAID: set[str] = set()
_LOCK = threading.Lock()


def say_once(kind: str, text: str) -> None:
    """Log a warning unless this process has already logged one of the same kind."""
    with _LOCK:
        known = kind in _SAID
        _SAID.add(kind)
    if not known:
        LOG.warning("%s", text)


def cause(error: Exception) -> str:
    """An error's text on one line, without wandb's advice on how to call wandb.init."""
    text = " ".join(str(error).split("\nConsider")[0].split())
    return text.rstrip(".") or type(error).__name__
