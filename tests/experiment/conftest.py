"""Fixtures of this folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def src_logger() -> Iterator[logging.Logger]:
    """The logger ``src`` without handlers; what a test changes about it is undone."""
    logger = logging.getLogger("src")
    kept = logger.handlers[:], logger.level, logger.propagate
    logger.handlers = []
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = kept[0], kept[2]
    logger.setLevel(kept[1])
