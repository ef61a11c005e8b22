"""A real pseudo-terminal to print to."""

from __future__ import annotations

import os
import pty
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """What was printed to the terminal, after its block has ended."""

    raw = ""

    @property
    def text(self) -> str:
        """Without colours and cursor movements."""
        return CONTROL.sub("", self.raw).replace("\r\n", "\n")


@contextmanager
def open_terminal() -> Iterator[tuple[TextIO, Screen]]:
    """A stream that is a terminal. Its width is the environment's COLUMNS."""
    master, slave = pty.openpty()
    screen, chunks = Screen(), []

    def read() -> None:
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:  # Linux says so when the other end is closed
                return
            if not chunk:
                return
            chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as stream:
            yield stream, screen
    finally:
        reader.join()
        os.close(master)
        screen.raw = b"".join(chunks).decode()
