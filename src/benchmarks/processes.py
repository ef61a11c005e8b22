"""Python processes of a benchmark, from their start to their end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.errors import HarnessError

SPIN = "GOMP_SPINCOUNT"
ROOT = Path(__file__).resolve().parents[2]


def ask(module: str, arguments: Sequence[str] = (), *, what: str, given: str = "") -> dict[str, Any]:
    """Run a module of ours in a process of its own.

    Args:
        what: the process does, for the error.
        given: its standard input.

    Returns:
        The last line that it prints, from JSON.

    Raises:
        HarnessError: it failed; with what it said last.
    """
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command, env = [sys.executable, "-m", module, *arguments], {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise HarnessError(f"The process that {what} ended with: {said[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def start(commands: Sequence[Sequence[str]], env: Mapping[str, str | None] | None = None) -> None:
    """Run Python with each list of arguments, all at once, and wait for the last to end.

    Args:
        env: variables to set, or with None to leave out.

    Raises:
        HarnessError: one of them failed; says how it ended.
    """
    merged = {name: value for name, value in {**os.environ, **(env or {})}.items() if value is not None}
    with tempfile.TemporaryFile("w+") as said:
        running = [
            subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=said, env=merged)
            for command in commands
        ]
        try:
            codes = [process.wait() for process in running]
        finally:
            for process in running:
                process.kill()
        if any(codes):
            said.seek(0)
            lines = [line.strip() for line in said.read().splitlines() if line.strip()]
            what = next(" ".join(command[:3]) for command, code in zip(commands, codes, strict=True) if code)
            raise HarnessError(f"The process python {what} ended with {max(codes, key=abs)}: {' '.join(lines[-3:])}")
