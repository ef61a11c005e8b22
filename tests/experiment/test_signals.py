"""SIGINT and SIGTERM ask; a second one insists; afterwards everything is as it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from src.experiment.signals import stop_on_signals

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def known_handlers() -> Iterator[None]:
    """Each test finds Python's own handler for SIGINT, also where the tests run in the background, which ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_sets_the_event_and_is_told(number: int, caplog: pytest.LogCaptureFixture) -> None:
    with stop_on_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
    assert f"{signal.Signals(number).name}: stopping after this step; once more stops at once" in caplog.text


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_a_second_signal_stops_at_once(first: int, second: int) -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        signal.raise_signal(first)
        signal.raise_signal(second)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_former_handlers_come_back(error: type[BaseException] | None) -> None:
    former = [signal.getsignal(number) for number in BOTH]
    try:
        with stop_on_signals():
            assert [signal.getsignal(number) for number in BOTH] != former
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        assert error is not None
    assert [signal.getsignal(number) for number in BOTH] == former


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen: list[object] = []

    def work() -> None:
        with stop_on_signals() as stop:
            seen.extend([stop.is_set(), signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, signal.default_int_handler]
