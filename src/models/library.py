"""transformers as a guest: without progress bars and reports, and what it says of an error in one line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import transformers

from src.errors import brief


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars, load reports and the hub client's retries."""
    hub = logging.getLogger("huggingface_hub")
    verbosity, level = transformers.logging.get_verbosity(), hub.level
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        hub.setLevel(level)
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust has panicked, which is no Exception in Python, and cannot be imported by its name."""
    return (type(error).__module__, type(error).__name__) == ("pyo3_runtime", "PanicException")


def reason_of(error: BaseException) -> str:
    """The first line of what a library says, or all of it where that line only begins a list."""
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0].strip()
    reason = brief(" ".join(text.split()) if first.endswith(":") else first, 600)
    return reason if reason.endswith(".") else f"{reason}."
