"""Hydra finds the launcher in a clone that is not installed, with and without other plugins, here and in a worker."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import cloudpickle
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton

from src.train import run_cell

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_it_works_where_no_other_plugin_is_installed(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name != "hydra_plugins":
            (packages / entry.name).symlink_to(entry)
    # -S: without the real site-packages.
    arguments = ["-S", "-m", "src.train", "-m", "lora.rank=0,8", f"output_dir={tmp_path}/out"]
    result = python(*arguments, PYTHONPATH=str(packages))
    assert result.returncode == 2
    assert "lora.rank=0: lora.rank is 0" in result.stderr


def test_it_stands_beside_the_submitit_launchers() -> None:
    result = python("-m", "src.train", "hydra/launcher=nope")
    assert result.returncode == 2
    assert result.stderr == "hydra/launcher is 'nope'; allowed: basic, lanes, slurm, submitit_local, submitit_slurm.\n"


def test_a_worker_needs_nothing_but_the_task_function_to_know_our_plugin(tmp_path: Path) -> None:
    Plugins.instance()
    file = tmp_path / "job"
    file.write_bytes(cloudpickle.dumps((run_cell, Singleton.get_state())))
    code = (
        "import pickle, sys; from pathlib import Path; from hydra.core.singleton import Singleton\n"
        "task, state = pickle.loads(Path(sys.argv[1]).read_bytes()); Singleton.set_state(state)\n"
        "from src.config.compose import compose_config\n"
        "print(task.__module__, compose_config(['lora.budget=5']).lora.rank)"
    )
    result = python("-c", code, str(file))
    assert result.stdout == "src.train None\n", result.stderr
