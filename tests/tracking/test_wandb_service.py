from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from src.spec import TrackingSpec
from src.tracking import NullTracker, make_tracker
from src.tracking.wandb_service import Listener, connect, resolve_mode
from tests.tracking.stand_in import KEY

Said = Callable[[], list[str]]


@pytest.mark.parametrize(
    ("wanted", "environment", "mode"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "online"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, "online"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "dryrun"}, "offline"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "disabled"),
        ("offline", {"WANDB_API_KEY": KEY}, "offline"),
        ("offline", {"WANDB_MODE": "disabled"}, "offline"),
        ("online", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "online"),
    ],
)
def test_mode_follows_config_then_environment_then_key(
    wanted: str,
    environment: dict[str, str],
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve_mode(wanted, connect()) == mode
    assert said() == []


def test_a_key_in_netrc_is_a_key() -> None:
    Path(os.environ["NETRC"]).parent.mkdir(parents=True)
    Path(os.environ["NETRC"]).write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    assert resolve_mode("auto", connect()) == "online"


def test_wandbs_own_settings_file_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `wandb offline` leaves behind."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    settings = Path(os.environ["WANDB_CONFIG_DIR"]) / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nmode = offline\n")
    assert resolve_mode("auto", connect()) == "offline"


@pytest.mark.parametrize(
    ("wanted", "environment", "words"),
    [
        ("online", {}, "no API key"),
        ("auto", {"WANDB_MODE": "online"}, "no API key"),
        ("auto", {"WANDB_API_KEY": "short"}, "key cannot be used"),
    ],
)
def test_online_without_a_usable_key_is_offline_and_said_once(
    wanted: str,
    environment: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert [resolve_mode(wanted, connect()) for _ in range(3)] == ["offline"] * 3
    assert [words in text for text in said()] == [True]


def test_disabled_in_the_environment_tracks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert isinstance(make_tracker(TrackingSpec()), NullTracker)


def test_settings_that_wandb_refuses_do_not_stop_a_training(monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    monkeypatch.setenv("WANDB_MODE", "sideways")
    assert isinstance(make_tracker(TrackingSpec()), NullTracker)
    assert isinstance(make_tracker(TrackingSpec()), NullTracker)
    assert ["sideways" in text for text in said()] == [True]


def test_each_kind_of_message_from_wandb_is_said_once(said: Said) -> None:
    listener = Listener()
    for text in ("Fatal error while uploading data. More.", "Timed out finishing run.", "path not writable"):
        listener.warning(f"wandb: WARNING {text}")
        listener.error(f"wandb: ERROR {text}")
    listener.info("wandb: logged in")
    upload, other = said()
    assert "(Fatal error while uploading data)" in upload
    assert other == "W&B: path not writable"
