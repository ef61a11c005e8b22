"""What several of these tests compare with, made once."""

from __future__ import annotations

import pytest

from tests.experiment.workplace import Workplace, build
from tests.faults.command import Command


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return build(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="session")
def whole(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command's sweep, run without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    command = Command(place, folder / "out", folder)
    command.finish()
    return command
