"""Python processes of a benchmark, from their start to their end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from src.errors import HarnessError

SPIN = "GOMP_SPINCOUNT"


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
