"""The task pydoc: source of a standard-library function -> first line of its docstring.

Made from the running Python's own library, so it is a real generation task that is present on every machine.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import sys
import sysconfig
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from src.data.files import write_atomically
from src.errors import HarnessError

RULES = 1  # raise when the rules below change, so that no stale cache file is read
SUMMARY_CHARS = range(12, 121)
SOURCE_CHARS = range(40, 4001)
_SKIPPED = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib2to3"})
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def pydoc_file(cache_dir: Path) -> Path:
    """JSON lines with the columns source, summary and module; made once for each Python build.

    Raises:
        HarnessError: no library source on this machine, or the cache cannot be written.
    """
    build = hashlib.sha256(sys.version.encode()).hexdigest()[:8]
    path = cache_dir / "pydoc" / f"python-{platform.python_version()}-{build}-v{RULES}.jsonl"
    if not path.is_file():
        library = Path(sysconfig.get_path("stdlib"))
        rows = [row for file in _library_files(library) for row in _rows(file, library)]
        if not rows:
            raise HarnessError(f"The task pydoc needs the standard library's source, but {library} holds none.")
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return path


def module_split(module: str, seed: int) -> str:
    """train, validation or test (about 80, 10 and 10 %), by a hash of the seed and the module's name alone."""
    digest = hashlib.sha256(f"{seed}:{module}".encode()).digest()
    tenth = int.from_bytes(digest[:8], "big") * 10 >> 64
    return "test" if tenth == 9 else "validation" if tenth == 8 else "train"


def _library_files(library: Path) -> list[Path]:
    found = (path.relative_to(library) for path in library.rglob("*.py"))
    return sorted(library / path for path in found if not _SKIPPED.intersection(path.parts))


def _rows(file: Path, library: Path) -> Iterator[dict[str, str]]:
    parts = file.relative_to(library).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    try:
        with tokenize.open(file) as stream:
            text = stream.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old library code are no concern of the user's
            tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, OSError):
        return
    lines = text.split("\n")
    for node in ast.walk(tree):
        if isinstance(node, _Function):
            row = _row(node, lines)
            if row is not None:
                yield {**row, "module": module}


def _row(node: _Function, lines: list[str]) -> dict[str, str] | None:
    summary = (ast.get_docstring(node) or "").split("\n", maxsplit=1)[0].strip()
    if len(summary) not in SUMMARY_CHARS or len(node.body) < 2:
        return None
    docstring = node.body[0]
    kept = lines[node.lineno - 1 : docstring.lineno - 1] + lines[docstring.end_lineno : node.end_lineno]
    source = textwrap.dedent("\n".join(kept)).strip()
    return {"source": source, "summary": summary} if len(source) in SOURCE_CHARS else None
