"""A folder of hostile files for each case, and the watch over what is done with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.watch import Watch, make_watch


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Nothing may be run, and nothing written outside of the test's own folders."""
    watched = make_watch(tmp_path)
    yield watched
    watched.check()
