"""What `wandb agent` passes to the process that it starts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from src.tracking.trouble import cause, say_once


@dataclass(frozen=True)
class AgentRun:
    """The run that a sweep's agent has announced to the server, and that this process is to fill.

    Attributes:
        parameters: the sweep's own, by the dotted names of its definition.
    """

    sweep_id: str
    run_id: str
    parameters: dict[str, Any] = field(default_factory=dict)


def take_agent_run() -> AgentRun | None:
    """Take the agent's run out of the environment; None outside of an agent.

    With WANDB_SWEEP_ID set, wandb.init gives every run of the process the agent's id, whatever id it is asked for.
    So wandb must not see the variables, nor may a process that this one starts.
    """
    sweep_id, run_id = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    if not sweep_id or not run_id:
        return None
    del os.environ["WANDB_SWEEP_ID"], os.environ["WANDB_RUN_ID"]
    return AgentRun(sweep_id, run_id, _parameters(os.environ.pop("WANDB_SWEEP_PARAM_PATH", None)))


def _parameters(path: str | None) -> dict[str, Any]:
    """From the file that an agent writes: ``lora.rank: {value: 8}`` and so on, beside the version of the format."""
    if path is None:
        return {}
    try:
        stored = yaml.safe_load(Path(path).read_text())
        return {name: item["value"] for name, item in stored.items() if name != "wandb_version"}
    except Exception as error:
        say_once("sweep", f"The parameters of the W&B sweep cannot be read ({cause(error)}): its run lacks them.")
        return {}
