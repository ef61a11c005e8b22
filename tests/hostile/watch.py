"""Notices executions: a canary file that every payload would make, and Python's audit events while a case runs."""

from __future__ import annotations

import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from src.config.messages import exit_code, paragraph

# Events that start another program, whatever it is.
STARTS = frozenset(
    {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn", "subprocess.Popen"}
)
# What a payload's pickle would ask for.
CALLABLES = frozenset({"system", "Popen", "exec", "eval", "popen", "run", "__import__", "open", "import_module"})
CHANGES = frozenset(
    {"os.remove", "os.rmdir", "os.rename", "os.chmod", "os.link", "os.symlink", "os.mkdir", "os.truncate"}
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PLAIN = ("/dev/", "/proc/")
_OWN = ("__pycache__", "/matplotlib")  # what Python and matplotlib keep for themselves


@dataclass
class Watch:
    """What happened while a case ran.

    Attributes:
        folder: of the hostile files; nothing in it may be run or written while a case runs.
        allowed: folders in which files may be written.
        events: what was noticed.
    """

    folder: Path
    allowed: tuple[Path, ...]
    events: list[str] = field(default_factory=list)

    @property
    def canary(self) -> Path:
        """The file that every payload would make."""
        return self.folder.parent / "canary"

    @property
    def command(self) -> str:
        """A payload for a shell."""
        return f"touch {self.canary}"

    @property
    def code(self) -> str:
        """A payload for Python."""
        return f"open({str(self.canary)!r}, 'w').close()"

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch what a block does; a hook cannot be taken away again, so there is one for the whole process."""
        if not _HOOKED:
            sys.addaudithook(_hook)
            _HOOKED.append(True)
        _CURRENT.append(self)
        try:
            yield
        finally:
            _CURRENT.remove(self)

    def check(self) -> None:
        """Nothing was run."""
        assert not self.canary.exists(), "the canary file was made"
        assert not self.events, self.events

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        told = self._told(event, arguments)
        if told:
            self.events.append(f"{event}: {told}")

    def _told(self, event: str, arguments: tuple[Any, ...]) -> str | None:  # noqa: PLR0911 - a table
        if event in STARTS:
            return repr(arguments[:2])
        if event == "pickle.find_class":
            return repr(arguments) if arguments[1] in CALLABLES else None
        if event in {"exec", "compile"}:
            name = _code_file(arguments)
            return name if name and self._inside(name, self.folder) else None
        if event in {"import", "ctypes.dlopen"}:
            names = [str(name) for name in arguments[:2] if name]
            return next((name for name in names if self._inside(name, self.folder)), None)
        if event == "socket.connect":
            address = arguments[1]
            return repr(address) if isinstance(address, tuple) and address[0] not in {"127.0.0.1", "::1"} else None
        if event == "open":
            return self._opened(*arguments[:3])
        return self._changed(arguments) if event in CHANGES else None

    def _opened(self, name: Any, mode: str | None, flags: int) -> str | None:
        if not isinstance(name, str | bytes | os.PathLike):
            return None
        writes = bool((flags or 0) & _WRITES) or any(letter in (mode or "") for letter in "wax+")
        return os.fsdecode(name) if writes and self._forbidden(os.fsdecode(name)) else None

    def _changed(self, arguments: tuple[Any, ...]) -> str | None:
        if any(isinstance(number, int) and number >= 0 for number in arguments[-1:]):
            return None  # named relative to an open folder, as shutil.rmtree does
        names = [os.fsdecode(name) for name in arguments if isinstance(name, str | bytes | os.PathLike)]
        return next((name for name in names if self._forbidden(name)), None)

    def _forbidden(self, name: str) -> bool:
        if name.startswith(_PLAIN) or any(word in name for word in _OWN) or not name:
            return False
        outside = not any(self._inside(name, folder) for folder in self.allowed)
        return outside or self._inside(name, self.folder)

    @staticmethod
    def _inside(name: str, folder: Path) -> bool:
        path = os.path.realpath(name)
        return path == str(folder) or path.startswith(f"{folder}{os.sep}")


_CURRENT: list[Watch] = []
_HOOKED: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _CURRENT:
        watch = _CURRENT.pop()  # what the check itself does is not watched
        try:
            watch.see(event, arguments)
        finally:
            _CURRENT.append(watch)


def make_watch(root: Path, *more: Path) -> Watch:
    """A watch with a hostile folder of its own; files may be written beside it and in the system's temporary folder."""
    folder = root.resolve() / "hostile"
    folder.mkdir()
    return Watch(folder, tuple(path.resolve() for path in (root, Path(tempfile.gettempdir()), *more)))


def refused(watch: Watch, attack: Callable[[], object], code: int | None = None) -> str:
    """What a person is told when an attack is refused: one paragraph, no traceback, and nothing was run."""
    with watch.on(), pytest.raises(Exception) as caught:
        attack()
    watch.check()
    text = paragraph(caught.value)
    assert exit_code(caught.value) in ((1, 2) if code is None else (code,)), text
    assert "This is not expected" not in text
    assert "\n" not in text.strip()
    assert 20 < len(text) < 2000
    return text


def _code_file(arguments: tuple[Any, ...]) -> str | None:
    code = arguments[0] if arguments else None
    if isinstance(code, types.CodeType):
        return code.co_filename
    return str(arguments[1]) if len(arguments) > 1 and arguments[1] else None
