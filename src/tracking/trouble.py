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
        news = kind not in _SAID
        _SAID.add(kind)
    if news:
        LOG.warning("%s", text)


def forget() -> None:
    """Let every kind be said again."""
    with _LOCK:
        _SAID.clear()
