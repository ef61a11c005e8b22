from __future__ import annotations

import ast
from pathlib import Path

import pytest

from src.data.pydoc import module_split, pydoc_file
from src.data.sources import load_rows
from src.spec import TaskSpec

SPEC = TaskSpec(
    "pydoc",
    "causal_lm",
    prompt="{source}{module}",
    completion="{summary}",
    validation_split="validation",
    metric="loss",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    pydoc_file(cache)
    return cache


def test_functions_without_their_docstrings(made: Path) -> None:
    rows = load_rows(SPEC, made)["train"][:]
    assert len(rows["source"]) > 2000
    for source, summary in zip(rows["source"], rows["summary"], strict=True):
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        assert (ast.get_docstring(function) or "").split("\n")[0].strip() != summary
        assert summary == summary.strip()
        assert "\n" not in summary


def test_splits_share_no_module_and_have_about_8_to_1_to_1_of_them(made: Path) -> None:
    modules = {role: set(rows["module"]) for role, rows in load_rows(SPEC, made).items()}
    total = sum(map(len, modules.values()))
    assert len(set().union(*modules.values())) == total
    assert 0.72 < len(modules["train"]) / total < 0.88
    assert all(0.05 < len(modules[role]) / total < 0.16 for role in ("validation", "test"))


def test_the_seed_moves_modules_and_the_file_is_made_once(made: Path) -> None:
    names = [f"module{i}" for i in range(2000)]
    first, second = ([module_split(name, seed) for name in names] for seed in (0, 1))
    assert first != second
    assert 1500 < first.count("train") < 1700
    file = pydoc_file(made)
    written = file.stat().st_mtime_ns
    assert pydoc_file(made).stat().st_mtime_ns == written
