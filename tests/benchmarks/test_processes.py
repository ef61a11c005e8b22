"""Processes run to their end, in the environment that is asked for, and one that fails says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.benchmarks.processes import start
from src.errors import HarnessError

WRITE = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(os.environ.get('BENCH_TEST')))"


def test_variables_are_set_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_TEST", "inherited")
    seen = []
    for env in ({}, {"BENCH_TEST": "own"}, {"BENCH_TEST": None}):
        start([["-c", WRITE, str(tmp_path / "seen")]], env)
        seen.append((tmp_path / "seen").read_text())
    assert seen == ["inherited", "own", "None"]


def test_a_failure_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="ended with 3: no such luck"):
        start(
            [
                ["-c", WRITE, str(tmp_path / "seen")],
                ["-c", "import sys; print('no such luck', file=sys.stderr); sys.exit(3)"],
            ]
        )
    assert (tmp_path / "seen").exists()  # both were started and waited for
