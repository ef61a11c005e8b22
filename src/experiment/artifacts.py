"""What a finished lane leaves on disk beside its record: adapter, what another method trained, head, predictions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from src.adapters.peft_format import to_peft
from src.models.adapted import AdaptedModel
from src.models.generate import Generation
from src.records import RunPaths, remove_leftovers, write_bytes_atomic, write_json_atomic

# peft's names of tasks; a model with a head of ours is a bare backbone to it.
PEFT_TASKS = {"causal_lm": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}


def save_lane(model: AdaptedModel, lane: int, paths: RunPaths, examples: Mapping[str, Tensor]) -> None:
    """Write the lane as it is now (its best state).

    Args:
        examples: `Result.examples` of test.

    Raises:
        HarnessError: the system refused to write.
    """
    setup, base = model.setups[lane], model.base
    for folder in (paths.root, paths.adapter):
        remove_leftovers(folder)
    if setup.projections:
        adapter = to_peft(
            setup.projections,
            model.adapters[lane],
            weight_of=model.frozen_weight,
            prefix=base.prefix,
            source=base.source,
            task_type=PEFT_TASKS.get(setup.spec.task.kind),
        )
        write_bytes_atomic(paths.adapter_weights, save(adapter.tensors))
        write_json_atomic(paths.adapter_config, adapter.config)
    for path, parameters in ((paths.method, model.method.parameters()), (paths.head, model.heads[lane])):
        tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in parameters.items()}
        if tensors:
            write_bytes_atomic(path, save(tensors))
    write_bytes_atomic(paths.predictions, save({name: values.contiguous() for name, values in examples.items()}))


def disk_bytes(paths: RunPaths, *, saved: bool) -> dict[str, int | None]:
    """Sizes of what `save_lane` left of the trained values, and of the newest checkpoint to resume from.

    Args:
        saved: whether this run came to `save_lane`; what an earlier one left is not its own.
    """
    files = [*paths.adapter.glob("*"), paths.method, paths.head] if saved else []
    newest = max(paths.checkpoints.glob("step-*"), default=None)
    return {
        "checkpoint_bytes": _total(files),
        "training_checkpoint_bytes": _total([] if newest is None else [*newest.glob("*")]),
    }


def _total(files: Sequence[Path]) -> int | None:
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return sum(sizes) if sizes else None


def save_generations(paths: RunPaths, generations: Sequence[Generation]) -> None:
    """Write generations.jsonl, where anything was generated.

    Raises:
        HarnessError: the system refused to write.
    """
    if generations:
        lines = (json.dumps(dataclasses.asdict(generation), ensure_ascii=False) for generation in generations)
        write_bytes_atomic(paths.generations, "".join(f"{line}\n" for line in lines).encode())
