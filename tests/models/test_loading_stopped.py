"""A signal that asks a process to stop while a model is being loaded."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import pytest

from src.spec import ModelSpec
from tests.models.test_loading import base_of
from tests.tiny_files import save_model


class Stop(BaseException):
    """What asks a process to stop."""


@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt, SystemExit])
def test_who_asks_to_stop_is_not_told_that_the_model_is_broken(
    kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(number: int, frame: FrameType | None) -> None:
        raise kind

    save_model(tmp_path)
    monkeypatch.setattr("src.models.loading.check_folder", lambda source: signal.raise_signal(signal.SIGUSR2))
    former = signal.signal(signal.SIGUSR2, ask)
    try:
        with pytest.raises(kind):
            base_of(ModelSpec(str(tmp_path)), "classification", tmp_path)
    finally:
        signal.signal(signal.SIGUSR2, former)
