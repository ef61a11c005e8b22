"""The repository's promises about itself: what its files may say, how long they are, what is pinned."""

from __future__ import annotations

import ast
import codecs
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 300
GRAB_BAGS = {"utils", "util", "helpers", "misc", "common"}

# Kept in rot13, so that this file passes its own check: folders of one machine; hosts of package indexes and
# names of products that have no part in the software.
FOLDERS = ("/jbex", "/bcg")
NAMES = ("clcv.bet", "clgubaubfgrq", "qbjaybnq.clgbepu.bet", "qro.qrovna.bet", "pynhqr", "naguebcvp", "pungtcg")

UNSAFE_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_FLAGS = {"trust_remote_code", "allow_pickle"}


def project_files() -> list[Path]:
    """Tracked files, and new ones that git does not ignore, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    return sorted(Path(name) for name in names if name and (ROOT / name).is_file())


def python_files() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".py"]


def forbidden_words(text: str) -> list[str]:
    folders, names = ([re.escape(codecs.decode(word, "rot13")) for word in words] for words in (FOLDERS, NAMES))
    pattern = rf"(?<![\w./-])(?:{'|'.join(folders)})(?![\w-])|{'|'.join(names)}"
    return re.findall(pattern, text, re.IGNORECASE)


def unsafe_calls(source: str) -> Iterator[str]:
    """Ways in which a file that was read could run code: pickle and its kin, code that comes with a model."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"import {n.name}" for n in names if n.name.partition(".")[0] in UNSAFE_MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in UNSAFE_MODULES:
                yield f"from {module} import"
            case ast.ImportFrom(module="torch", names=names):
                yield from (f"from torch import {n.name}" for n in names if n.name in {"load", "save"})
            case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save" as name):
                yield f"torch.{name}"
            case ast.keyword(arg=str(flag), value=value) if flag in UNSAFE_FLAGS:
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield flag


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in (*project["dependencies"], *project["optional-dependencies"]["dev"])]


def pulled(requirements: Iterable[Requirement]) -> set[str]:
    """Names of all that `requirements` install here, directly or not, as far as it is installed."""
    found: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        new = {(name, wanted) for wanted in ("", *requirement.extras)} - found
        found |= new
        for _, wanted in new:
            waiting += [(Requirement(line), wanted) for line in requires(name)]
    return {name for name, _ in found}


def requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def test_no_file_speaks_of_one_machine_or_of_its_making() -> None:
    found = {str(path): forbidden_words((ROOT / path).read_text(errors="replace")) for path in project_files()}
    assert {path: words for path, words in found.items() if words} == {}


def test_forbidden_words_are_found_where_they_stand() -> None:
    first, second = (codecs.decode(word, "rot13") for word in FOLDERS)
    host = codecs.decode(NAMES[1], "rot13")
    assert forbidden_words(f"cd {first}/main; ls {second}; get https://files.{host}.org/x") == [first, second, host]
    assert forbidden_words("net/work /worker /optimiser s/options") == []


def test_source_files_are_short() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in python_files()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_file_is_a_grab_bag() -> None:
    assert [path for path in python_files() if not GRAB_BAGS.isdisjoint(path.with_suffix("").parts)] == []


def test_every_source_folder_is_a_package() -> None:
    # One without __init__.py is not seen by import-linter, nor by an installation that is not editable.
    folders = {path.parent for path in python_files() if path.parts[0] == "src"}
    assert [folder for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()] == []


def test_nothing_that_is_read_can_run_code() -> None:
    found = {path: list(unsafe_calls((ROOT / path).read_text())) for path in python_files() if path.parts[0] == "src"}
    assert Path("src/errors.py") in found
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "def f(): return torch.load(x, weights_only=True)",
        "AutoModel.from_pretrained(p, trust_remote_code=flag)",
        "numpy.load(p, allow_pickle=True)",
    ],
)
def test_unsafe_calls_are_found_where_they_stand(source: str) -> None:
    assert list(unsafe_calls(source))
    assert not list(unsafe_calls("AutoModel.from_pretrained(p, trust_remote_code=False); torch.manual_seed(0)"))


def test_every_pin_is_exact_and_sorted() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    assert lines == sorted(lines, key=str.upper)
    assert pins()["torch"] == "2.13.0"


def test_pins_satisfy_what_pyproject_declares() -> None:
    pinned = pins()
    assert [r.name for r in declared() if pinned.get(canonicalize_name(r.name), "missing") not in r.specifier] == []


def test_what_the_dependencies_pull_is_pinned_too() -> None:
    assert pulled(declared()) - set(pins()) == set()


def test_make_help_lists_every_target() -> None:
    declared_targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared_targets is not None
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert [target for target in declared_targets[1].split() if f"\n  {target} " not in shown] == []
