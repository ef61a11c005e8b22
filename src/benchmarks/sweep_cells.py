"""The cells of the sweep that is compared, in our words and in peft's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from src.benchmarks.peers.job import Examples, Job, PeerCell
from src.benchmarks.request import Request
from src.data import TaskData, TokenSplit
from src.errors import ConfigError
from src.experiment.resolve import Cell
from src.experiment.resources import Resources
from src.spec import RunSpec, normalise
from src.training.data_order import total_steps


def specs_of(request: Request) -> list[RunSpec]:
    """The sweep's cells, in the order of `python -m src.train -m`.

    Raises:
        ConfigError: what the peers cannot do.
    """
    spec, options = request.spec, request.options
    check(spec)
    return [
        normalise(
            dataclasses.replace(
                spec,
                lora=dataclasses.replace(spec.lora, rank=rank, budget=None, targets=targets),
                optim=dataclasses.replace(spec.optim, lr=lr),
            )
        )
        for rank in options["ranks"]
        for targets in options["targets"]
        for lr in options["lr"] or (spec.optim.lr,)
    ]


def check(spec: RunSpec) -> None:
    """Raises:
    ConfigError: what the peers' scripts do not do, or not in the same way.
    """
    task, lora, trainer = spec.task, spec.lora, spec.trainer
    if task.kind != "classification" or task.text_pair is not None or task.image is not None:
        raise ConfigError("task.kind", task.kind, "classification of single texts, which is what the peers do here")
    if spec.method.name != "lora" or lora.dora or lora.rslora or lora.b_lr_ratio != 1.0 or lora.ranks is not None:
        raise ConfigError("method.name", spec.method.name, "lora in its plain form, with one rank and learning rate")
    for name in ("eval_every", "patience"):
        if getattr(trainer, name) is not None:
            raise ConfigError(f"trainer.{name}", getattr(trainer, name), "null: the peers validate once an epoch")
    if trainer.accumulation > 1:
        raise ConfigError("trainer.accumulation", trainer.accumulation, "1, as the peers have it")


def make_job(cells: Sequence[Cell], data: TaskData, tokens: str, resources: Resources) -> Job:
    """The cells in peft's words.

    Raises:
        ConfigError: a projection that is part of a fused weight, which peft cannot adapt alone.
    """
    spec = cells[0].spec
    for projection in (p for cell in cells for p in cell.setup.projections):
        if projection.d_out != projection.module_out:
            raise ConfigError("model.path", spec.model.path, "a model whose letters have weights of their own")
    return Job(
        model=resources.base(spec).source,
        pooling=spec.model.pooling,
        tokens=tokens,
        pad_id=data.pad_id,
        num_labels=data.num_labels,
        optim=dataclasses.asdict(spec.optim),
        trainer=dataclasses.asdict(spec.trainer),
        steps=total_steps(data, spec.trainer),
        seed=spec.seed,
        device=str(resources.device),
        cells=tuple(_peer_cell(cell) for cell in cells),
    )


def _peer_cell(cell: Cell) -> PeerCell:
    modules = tuple(projection.module for projection in cell.setup.projections)
    lora, rank = cell.spec.lora, cell.setup.allocation.rank
    assert rank is not None
    return PeerCell(cell.run_id, modules, rank, lora.alpha, lora.dropout, cell.spec.optim.lr)


def examples_of(data: TaskData) -> dict[str, Examples]:
    """The splits as the peers get them."""
    found = {}
    for role, split in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        assert isinstance(split, TokenSplit)
        assert split.labels is not None
        found[role] = Examples(split.input_ids, split.offsets, split.labels)
    return found
