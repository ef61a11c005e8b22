"""Control: what is let through is noticed, by the canary file and by the audit events."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate

from tests.hostile.payloads import Payload, module_of
from tests.hostile.watch import Watch, make_watch


def by_system(watch: Watch) -> None:
    os.system(watch.command)


def by_popen(watch: Watch) -> None:
    subprocess.Popen(watch.command, shell=True).wait()


def by_pickle(watch: Watch) -> None:
    pickle.loads(pickle.dumps(Payload(watch.command)))


def by_import(watch: Watch) -> None:
    spec = importlib.util.spec_from_file_location("evil", module_of(watch))
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def by_import_statement(watch: Watch) -> None:
    module_of(watch)
    sys.path.insert(0, str(watch.folder))
    try:
        import evil  # noqa: F401, PLC0415
    finally:
        sys.path.remove(str(watch.folder))
        sys.modules.pop("evil", None)


def by_target(watch: Watch) -> None:
    """Hydra itself calls what `_target_` names; its list of forbidden names does not know this one."""
    instantiate(
        {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [str(watch.canary)]}]}
    )


def by_writing_elsewhere(watch: Watch) -> None:
    (Path.home() / ".canary-of-a-test").touch()
    (Path.home() / ".canary-of-a-test").unlink()


@pytest.mark.parametrize(
    "attack",
    [by_system, by_popen, by_pickle, by_import, by_import_statement, by_target, by_writing_elsewhere],
    ids=lambda attack: attack.__name__,
)
def test_an_execution_that_is_let_through_is_noticed(attack: Callable[[Watch], None], tmp_path: Path) -> None:
    watch = make_watch(tmp_path)
    with watch.on():
        attack(watch)
    assert watch.events or attack is by_target
    assert watch.canary.exists() == (attack is not by_writing_elsewhere)
    with pytest.raises(AssertionError):
        watch.check()
