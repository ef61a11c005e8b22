"""A wandb of each test's own: no key, no settings, no server but the stand-in, nothing outside tmp_path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import wandb

from src.tracking import trouble, wandb_service, wandb_summary, wandb_tracker
from tests.tracking.stand_in import KEY, StandIn


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What a person is told of trouble; wandb's own loggers write to its files only, though caplog sees them."""

    def warnings() -> list[str]:
        records = [record for record in caplog.records if record.name == "src.tracking"]
        return [record.message for record in records if record.levelname == "WARNING"]

    return warnings


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; the process's memory of earlier trouble is empty as well."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "home" / name))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shared = wandb_service.Shared()
    monkeypatch.setattr(wandb_service, "SHARED", shared)
    monkeypatch.setattr(wandb_tracker, "SHARED", shared)
    monkeypatch.setattr(wandb_summary, "SHARED", shared)
    monkeypatch.setattr(trouble, "_SAID", set())
    yield folder
    with suppress(SystemExit):
        wandb.teardown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A stand-in server for which a key is configured."""
    with StandIn() as stand_in:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", stand_in.url)
        yield stand_in
