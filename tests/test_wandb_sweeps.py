"""sweeps/wandb: what W&B's agent makes of the definitions, and one cell through a real agent against the stand-in."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from src.config import to_settings, to_spec
from src.config.compose import compose_config
from src.experiment.outcome import summarise
from src.spec import run_id
from tests.experiment.workplace import build
from tests.record_factory import make_record, make_spec
from tests.tracking.stand_in import KEY, StandIn
from tests.tracking.stand_in_api import StoredSweep

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "sweeps" / "wandb").glob("*.yaml"))
SWEEP, RUN = "abcd1234", "agents01"
# The agent as it is, but for the five seconds that it waits between two looks at its processes.
AGENT = """
import sys
from wandb.wandb_agent import Agent
from wandb.cli.cli import cli
Agent.POLL_INTERVAL = 0.2
cli(["agent", sys.argv[1]])
"""


def definition(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "sweeps" / "wandb" / f"{name}.yaml").read_text())


def values_of(parameter: dict[str, Any]) -> list[Any]:
    """Every value that a sweep may choose; of a distribution the ends and one between."""
    if "distribution" in parameter:
        return [parameter["min"], 0.0023456789012345, parameter["max"]]
    return parameter["values"] if "values" in parameter else [parameter["value"]]


def arguments_of(sweep: dict[str, Any]) -> Iterator[dict[str, dict[str, Any]]]:
    """Arguments as the server sends them to an agent; every value of each parameter occurs."""
    values = {name: values_of(parameter) for name, parameter in sweep["parameters"].items()}
    first = {name: {"value": found[0]} for name, found in values.items()}
    yield first
    for name, found in values.items():
        yield from ({**first, name: {"value": value}} for value in found[1:])


def command_line(sweep: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
    """What `Agent._command_run` starts."""
    known = {"env": ["/usr/bin/env"], **create_sweep_command_args({"args": arguments})}
    expanded = [known.get(str(part)[2:-1], [part]) for part in create_sweep_command(list(sweep["command"]))]
    return [str(part) for parts in expanded for part in parts]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_command_of_a_sweep_composes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", SWEEP)
    sweep, seen = definition(path.stem), []
    for arguments in arguments_of(sweep):
        line = command_line(sweep, arguments)
        assert line[:4] == ["/usr/bin/env", "python", "-m", "src.train"]
        config = compose_config(line[4:])
        assert to_settings(config).study == f"{path.stem}-{SWEEP}"
        spec = to_spec(config)
        seen.append(run_id(spec))
        for name, argument in arguments.items():
            group, _, key = name.rpartition(".")
            assert getattr(getattr(spec, group) if group else spec, key) == argument["value"]
    assert len(set(seen)) == len(seen) > 1


def test_the_sweeps_are_those_of_the_named_studies() -> None:
    assert [path.stem for path in FILES] == ["grid", "learning_rate", "what_rank", "which_matrices"]
    for name, number in (("grid", 8), ("which_matrices", 63), ("what_rank", 135)):
        axes = yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
        sweep = definition(name)
        assert math.prod(len(values_of(parameter)) for parameter in sweep["parameters"].values()) == number
        for key, values in axes.items():
            named = {value for value in str(values).split(",") if value != "none"}
            own = {str(value) for value in values_of(sweep["parameters"][key])}
            assert own == ({str(float(value)) for value in named} if key == "optim.lr" else named)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_header_says_how_to_start_it_and_the_metric_is_one_that_runs_have(path: Path) -> None:
    header = path.read_text().partition("\n\n")[0]
    assert f"wandb sweep --project lora-sweep sweeps/wandb/{path.stem}.yaml" in header
    assert "wandb agent <entity>/lora-sweep/<sweep id>" in header
    assert "minute" in header or "hour" in header
    assert definition(path.stem)["metric"] == {"name": "best_validation/accuracy", "goal": "maximize"}
    assert "best_validation/accuracy" in summarise(make_record(make_spec()))


def test_a_real_agent_trains_a_cell_into_the_sweeps_own_run(tmp_path: Path) -> None:
    place, sweep = build(tmp_path / "place"), definition("grid")
    tiny = {
        "model.path": place.model,
        "task": "own",
        "task.path": place.data,
        "task.test_split": "null",
        "task.max_length": 16,
        "trainer.max_steps": 2,
        "trainer.dtype": "float32",
        "tracking.log_every": 1,
        "output_dir": tmp_path / "outputs",
        "cache_dir": place.cache,
        "device": "cpu",
    }
    sweep["command"][-1:-1] = [f"{key}={value}" for key, value in tiny.items()]
    arguments = {"lora.rank": {"value": 4}, "lora.targets": {"value": "qkvo"}}
    command = {"type": "run", "run_id": RUN, "program": sweep["program"], "args": arguments}
    with StandIn() as server:
        server.api.sweeps[SWEEP] = StoredSweep(yaml.safe_dump(sweep), [command])
        found = run_agent(server.url, tmp_path)
    assert found.returncode == 0, found.stderr
    assert (server.api.sweeps[SWEEP].agents, list(server.runs)) == (1, [RUN]), found.stderr

    run = server.runs[RUN]
    assert (run.variables["sweep"], run.variables["project"], run.variables["entity"]) == (SWEEP, "swept", "tester")
    config = run.plain_config()
    assert (config["lora"]["rank"], config["rank"], config["lora.rank"], config["lora.targets"]) == (4, 4, 4, "qkvo")
    assert run.exit_code == 0
    assert run.summary[sweep["metric"]["name"]] == run.history[-1]["validation/accuracy"]
    (kept,) = (tmp_path / "outputs" / f"grid-{SWEEP}" / "runs").glob("qkvo-r4-*/tracking.json")
    assert json.loads(kept.read_text())["id"] == RUN
    assert "Ignoring" not in found.stderr


def run_agent(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    own = {f"WANDB_{name}_DIR": str(folder / name) for name in ("CONFIG", "CACHE", "DATA")}
    own |= {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url, "WANDB_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-c", AGENT, f"tester/swept/{SWEEP}"],
        cwd=ROOT,
        env={**os.environ, **own, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
