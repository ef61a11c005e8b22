"""Counts the system calls by which a process changes the files below a folder, and kills it at one of them."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALLS = ("mkdir", "chmod", "fsync", "replace", "rename", "unlink", "rmdir")
WRITING = {"w", "a", "x", "+"}


@dataclass(frozen=True)
class DieAt:
    """To be called in the process that is to die.

    Attributes:
        root: steps elsewhere do not count.
        step: from 0; None to live on.
        log: a line is written there for each step: what is done to which file.
        parts: only paths that contain one of these.
    """

    root: Path
    log: Path
    parts: tuple[str, ...]
    step: int | None = None

    def __call__(self) -> None:
        _Steps(self).install()


class _Steps:
    def __init__(self, order: DieAt) -> None:
        self.order, self.count = order, 0
        self.log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def install(self) -> None:
        """Take the place of the functions of `os` and of `io.open`, through which pathlib and shutil go."""
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        opening = io.open
        io.open = lambda file, mode="r", *rest, **more: self._open(opening, file, mode, *rest, **more)  # type: ignore[assignment]

    def step(self, what: str, path: str) -> None:
        """Something is about to be done; the process may end here."""
        if not path.startswith(str(self.order.root)) or not any(part in path for part in self.order.parts):
            return
        os.write(self.log, f"{what} {path}\n".encode())
        if self.count == self.order.step:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Any, *rest: Any, **more: Any) -> Any:
            self.step(name, _full_path(path, more.get("dir_fd")))
            return call(path, *rest, **more)

        return counted

    def _open(self, opening: Callable[..., Any], file: Any, mode: str, *rest: Any, **more: Any) -> Any:
        writes = not WRITING.isdisjoint(mode)
        if writes:
            self.step("open", str(file))
        stream = opening(file, mode, *rest, **more)
        return _Stream(stream, self, str(file)) if writes else stream


class _Stream:
    """A file that is written in two halves."""

    def __init__(self, stream: Any, steps: _Steps, path: str) -> None:
        self._stream, self._steps, self._path = stream, steps, path

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, content: Any) -> int:
        middle = len(content) // 2
        self._steps.step("write nothing of", self._path)
        self._stream.write(content[:middle])
        self._stream.flush()
        self._steps.step("write half of", self._path)
        self._stream.write(content[middle:])
        self._stream.flush()
        self._steps.step("write all of", self._path)
        return len(content)


def _full_path(path: Any, folder: int | None) -> str:
    """Of a name in an open folder, or of an open file, as well."""
    if isinstance(path, int):
        return str(Path(f"/proc/self/fd/{path}").readlink())
    return str(path) if folder is None else f"{Path(f'/proc/self/fd/{folder}').readlink()}/{path}"
