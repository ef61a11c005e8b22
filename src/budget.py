"""What a parameter budget buys: target sets, ranks, adapter parameters and share of the base; nothing is trained.

    python -m src.budget budget=73728
    python -m src.budget model=gpt2_medium budget=393216 targets=q,qv,qkvo
    python -m src.budget model=roberta_base rank=8 lora.layers=6-11

Takes the overrides of `python -m src.train`; budget and rank stand for lora.budget and lora.rank, targets is a list.
Only the model's config is read, so hub models need no weights.
Exit codes: 0 shown; 1 no such model; 2 wrong config.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from src.config import to_settings, to_spec
from src.config.compose import compose_config
from src.config.messages import run_command
from src.errors import ConfigError
from src.spec import RunSpec, canonical_targets

SHORT = {"budget": "lora.budget", "rank": "lora.rank"}
DEFAULT_TARGETS = ("q", "k", "v", "o", "qk", "qv", "qkvo", "mlp", "all")


@dataclasses.dataclass(frozen=True)
class Row:
    """One target set.

    Attributes:
        targets: letters, in canonical order.
        rank, parameters, residual: None where not even rank 1 fits; residual also where a rank was given.
        note: why not.
    """

    targets: str
    rank: int | None = None
    parameters: int | None = None
    residual: int | None = None
    note: str = ""


def budget_rows(spec: RunSpec, target_sets: Sequence[str], cache_dir: Path) -> tuple[int, list[Row]]:
    """Parameters of the base, and a row for each target set.

    Raises:
        ConfigError: a letter or a layer that the model lacks.
        HarnessError: the model's config cannot be read.
    """
    # Torch and transformers come with it: neither --help nor a wrong config should wait for them.
    from src.adapters.budget import allocate  # noqa: PLC0415
    from src.adapters.projections import select_projections  # noqa: PLC0415
    from src.models.loading import outline  # noqa: PLC0415

    base = outline(spec.model, spec.task.kind, cache_dir)
    rows = []
    for targets in target_sets:
        projections = select_projections(base.projections, targets, spec.lora.layers, spec.lora.stacks)
        letters = "".join(dict.fromkeys(p.letter for p in projections))
        lora = dataclasses.replace(spec.lora, targets=letters)
        try:
            allocation = allocate(lora, projections)
            rows.append(Row(letters, allocation.rank, allocation.parameters, allocation.residual))
        except ConfigError as error:
            rows.append(Row(letters, note=str(error)))
    return base.num_parameters, rows


def show(spec: RunSpec, num_parameters: int, rows: Sequence[Row]) -> None:
    """Print the table, and below it why a target set has no rank."""
    size = f"rank {spec.lora.rank}" if spec.lora.budget is None else f"budget {spec.lora.budget:,}"
    print(f"{spec.model.path}: {num_parameters:,} parameters; {size}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("targets")
    for name in ("rank", "adapter parameters", "share of base", "residual"):
        table.add_column(name, justify="right")
    for row in rows:
        share = None if row.parameters is None else f"{row.parameters / num_parameters:.3%}"
        table.add_row(row.targets, _count(row.rank), _count(row.parameters), share, _count(row.residual))
    Console().print(table)
    for row in rows:
        if row.note:
            print(f"{row.targets}: {row.note}")


def cli(arguments: Sequence[str]) -> int:
    """Compose, compute, print, and turn every error into one paragraph and an exit code."""

    def work() -> None:
        overrides, target_sets = split_arguments(arguments)
        config = compose_config(overrides)
        spec = to_spec(config)
        show(spec, *budget_rows(spec, target_sets, Path(to_settings(config).cache_dir)))

    return run_command(arguments, __doc__, work)


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides for the config, and the target sets to show.

    Raises:
        ConfigError: neither a budget nor a rank, or unknown letters.
    """
    overrides, target_sets = [], list(DEFAULT_TARGETS)
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if key in {"targets", "lora.targets"}:
            target_sets = [canonical_targets(text.strip(), key) for text in value.split(",")]
            if "none" in target_sets:
                raise ConfigError(key, "none", "sets that adapt something, such as q,qv,all")
        else:
            overrides.append(f"{SHORT.get(key, key)}{sign}{value}")
    if not any(override.startswith(tuple(f"{key}=" for key in SHORT.values())) for override in overrides):
        raise ConfigError("budget", None, "budget=<adapter parameters> or rank=<r>, and for example model=gpt2")
    return overrides, target_sets


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


if __name__ == "__main__":
    sys.exit(cli(sys.argv[1:]))
