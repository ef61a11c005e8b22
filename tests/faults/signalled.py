"""Something that happens to this very process after so many steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from src.experiment.observer import PackObserver


@contextmanager
def signalled(number: int, after: int) -> Iterator[None]:
    """Send this process a signal after so many optimiser steps, counted over all packs."""
    with after_steps(after, lambda: signal.raise_signal(number)):
        yield


@contextmanager
def after_steps(after: int, happens: Callable[[], object]) -> Iterator[None]:
    """Do something after so many optimiser steps, counted over all packs."""
    stepped, taken = PackObserver.stepped, 0

    def step(self: PackObserver, *arguments: Any) -> None:
        nonlocal taken
        stepped(self, *arguments)
        taken += 1
        if taken == after:
            happens()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackObserver, "stepped", step)
        yield
