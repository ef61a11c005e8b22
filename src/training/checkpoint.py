"""Checkpoints of a lane: everything that the rest of its training depends on, as safetensors and JSON.

    <run>/checkpoints/step-00000100/state.safetensors    parameters, best state, AdamW moments, dropout generator
    <run>/checkpoints/step-00000100/state.json           position, history, counters, the pack's other members

A checkpoint is written to a temporary folder and renamed, and renamed before it is removed, so one that exists is
whole. The lanes of a pack write one after another; older checkpoints go only when all have written, so a common step
exists at any moment.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Generator, Tensor

from src.errors import DivergedError, HarnessError
from src.models.adapted import AdaptedModel
from src.records import atomic_folder, remove_folder, remove_leftovers
from src.training.lane import Evaluation, Lane, LossMeter

_STEP = re.compile(r"step-[0-9]{8,12}")
# Whatever a file that was cut or changed may lead to.
_DAMAGES = (
    SafetensorError, OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError,
)  # fmt: skip
_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_lanes(
    model: AdaptedModel, lanes: Sequence[Lane], folders: Sequence[Path], context: Mapping[str, str] | None = None
) -> None:
    """Write a checkpoint of each lane of a pack, ended ones too, then remove the older ones.

    All are filed under the pack's step, which is that of a lane that began with it.

    Args:
        context: what has to be the same to continue (precision, kind of device, data).

    Raises:
        HarnessError: the system refused to write; older checkpoints are still there.
    """
    roster, step = [lane.run_id for lane in lanes], max(lane.clock for lane in lanes)
    for lane, folder in zip(lanes, folders, strict=True):
        remove_leftovers(folder)
        with atomic_folder(_step_folder(folder, step)) as scratch:
            (scratch / "state.safetensors").write_bytes(save(_tensors(model, lane)))
            # Written plainly: the folder is synced, and takes its name, as a whole.
            values = {"roster": roster, "context": dict(context or {}), **_values(lane)}
            (scratch / "state.json").write_text(json.dumps(values, allow_nan=False))
    for folder in folders:
        for older in find_steps(folder):
            if older < step:
                remove_folder(_step_folder(folder, older))


def keep_only(folder: Path, step: int) -> None:
    """Remove a lane's checkpoints but that of one step."""
    for other in find_steps(folder):
        if other != step:
            remove_folder(_step_folder(folder, other))


def drop_unfinished(folders: Mapping[str, Path], unbegun: Iterable[str] = ()) -> None:
    """Remove checkpoints that some lane was still to write when their pack was killed.

    What is left are checkpoints of whole packs, so that whoever continues from the newest of them continues in the
    company, and with the slots, of then.

    Args:
        folders: of the lanes that are to go on, by run id.
        unbegun: run ids of those that have no checkpoint; a pack may have been about to write its first ones.
    """
    steps = {run_id: find_steps(folder) for run_id, folder in folders.items()}
    newest = dict.fromkeys(unbegun, 0) | {run_id: max(own, default=0) for run_id, own in steps.items()}
    for run_id, own in steps.items():
        for step in own:
            try:
                roster = read_roster(folders[run_id], step)
            except HarnessError:  # said where it is loaded
                continue
            if any(newest.get(member, step) < step for member in roster):
                remove_folder(_step_folder(folders[run_id], step))


def find_steps(folder: Path) -> list[int]:
    """Steps of which a whole checkpoint exists, ascending."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*") if _is_step(path))


def read_roster(folder: Path, step: int) -> tuple[str, ...]:
    """Run ids that were training together, in order; resumed together they compute exactly the same.

    Raises:
        HarnessError: the checkpoint is damaged.
    """
    source = _step_folder(folder, step)
    values = _read_json(source)
    try:
        return tuple(values["roster"])
    except (KeyError, TypeError) as error:
        raise _damaged(source, error) from error


def load_lane(
    model: AdaptedModel, lane: Lane, folder: Path, step: int, context: Mapping[str, str] | None = None
) -> None:
    """Put a lane back to where the checkpoint was written.

    Args:
        context: as at `save_lanes`.

    Raises:
        HarnessError: the checkpoint is damaged, or belongs to another configuration or context.
    """
    source = _step_folder(folder, step)
    values = _read_json(source)
    try:
        _check_context(source, values["context"], dict(context or {}))
        tensors = load_file(source / "state.safetensors")
        model.load_state(lane.index, _part(tensors, "param"))
        _restore_moments(lane, tensors, int(values["step"]))
        _generator(model, lane).set_state(tensors["dropout_generator"])
        _restore_values(lane, values, _part(tensors, "best"))
        lane.offset = step - lane.step
    except _DAMAGES as error:
        raise _damaged(source, error) from error


def _tensors(model: AdaptedModel, lane: Lane) -> dict[str, Tensor]:
    tensors = {f"param/{name}": value for name, value in model.state(lane.index).items()}
    tensors |= {f"best/{name}": value for name, value in lane.best_state.items()}
    for name, parameter in lane.parameters.items():
        moments = lane.optimizer.state.get(parameter, {})
        tensors |= {f"{m}/{name}": moments[m].to("cpu", copy=True) for m in _MOMENTS if m in moments}
    return {**tensors, "dropout_generator": _generator(model, lane).get_state()}


def _restore_moments(lane: Lane, tensors: dict[str, Tensor], step: int) -> None:
    for name, parameter in lane.parameters.items():
        moments = {m: tensors[f"{m}/{name}"].to(parameter.device) for m in _MOMENTS if f"{m}/{name}" in tensors}
        if moments:
            taken = torch.tensor(float(step), device=parameter.device)
            lane.optimizer.state[parameter] = {"step": taken, **moments}


def _values(lane: Lane) -> dict[str, Any]:
    return {
        "run_id": lane.run_id,
        "step": lane.step,
        "status": lane.status,
        "error": None if lane.error is None else str(lane.error),
        "train_seconds": lane.train_seconds,
        "eval_seconds": lane.eval_seconds,
        "tokens": lane.tokens,
        "history": [dataclasses.asdict(evaluation) for evaluation in lane.history],
        "best": None if lane.best is None else lane.history.index(lane.best),
        "meter": dataclasses.asdict(lane.meter),
        "costs": lane.costs,
    }


def _restore_values(lane: Lane, values: dict[str, Any], best_state: dict[str, Tensor]) -> None:
    lane.step, lane.status = int(values["step"]), values["status"]
    lane.error = None if values["error"] is None else DivergedError(values["error"])
    lane.train_seconds, lane.eval_seconds = float(values["train_seconds"]), float(values["eval_seconds"])
    lane.tokens = int(values["tokens"])
    lane.history = [Evaluation(**entry) for entry in values["history"]]
    lane.best = None if values["best"] is None else lane.history[values["best"]]
    lane.best_state, lane.meter = best_state, LossMeter(**values["meter"])
    lane.costs = values.get("costs", {})


def _part(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    prefix = f"{group}/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _generator(model: AdaptedModel, lane: Lane) -> Generator:
    return model.roster.generators[lane.index]


def _is_step(path: Path) -> bool:
    return _STEP.fullmatch(path.name) is not None and path.is_dir()


def _step_folder(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _read_json(folder: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, error) from error
    return values


def _check_context(folder: Path, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name, value in now.items():
        if then.get(name) != value:
            raise HarnessError(
                f"The checkpoint {folder} was written with {name} {then.get(name)}, and this start has {value}, which "
                "would give another result. Continue as it was begun, or run with rerun=true."
            )


def _damaged(folder: Path, error: Exception) -> HarnessError:
    return HarnessError(
        f"The checkpoint {folder} cannot be read ({type(error).__name__}: {error}). Delete that folder to start the "
        "run again from its beginning, or run with rerun=true."
    )
