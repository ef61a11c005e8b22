"""One SLURM for all tests of a session that ask for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.commands import Cluster
from tests.cluster.slurm import Slurm, absent
from tests.experiment.workplace import Workplace, build


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Running, with no jobs; each test ends its own."""
    yield from _running(pass_signal=True)


@pytest.fixture(scope="module")
def plain_slurm() -> Iterator[Slurm]:
    """A second one, which tells preempted tasks by SIGTERM."""
    yield from _running(pass_signal=False)


def _running(*, pass_signal: bool) -> Iterator[Slurm]:
    missing = absent()
    if missing:
        pytest.skip(f"no SLURM here ({', '.join(missing)} not found); Debian: apt-get install slurm-wlm munge")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Slurm(folder, pass_signal)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A tiny model and its data."""
    return build(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def cluster(slurm: Slurm, place: Workplace, tmp_path: Path) -> Iterator[Cluster]:
    """The commands of a person on the cluster; jobs that a test leaves behind end with it."""
    commands = Cluster(slurm, place, tmp_path / "out")
    yield commands
    commands.end()
