"""What a parameter budget buys: ranks for target sets, sizes for other methods; nothing is trained.

    python -m src.budget budget=73728
    python -m src.budget model=gpt2_medium budget=393216 targets=q,qv,qkvo
    python -m src.budget model=roberta_base rank=8 lora.layers=6-11
    python -m src.budget lora=dora budget=73728

Takes the overrides of `python -m src.train` (of an encoder-decoder model a task of kind seq2seq adapts both sides,
another task the encoder alone); budget and rank stand for lora.budget and lora.rank, targets is a list.
With a budget a second table has the methods that LoRA is judged against; full and bitfit have one size only.
Only the model's config is read, so hub models need no weights.
Exit codes: 0 shown; 1 no such model; 2 wrong config.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from src.config import to_settings, to_spec
from src.config.compose import compose_config
from src.config.messages import run_command
from src.errors import ConfigError
from src.spec import WITH_LORA, MethodName, MethodSpec, RunSpec, canonical_targets, expand_targets, normalise

if TYPE_CHECKING:
    from src.models.loading import Base

SHORT = {"budget": "lora.budget", "rank": "lora.rank"}
METHODS: tuple[MethodName, ...] = ("adapter_h", "adapter_l", "prefix", "random_subspace", "bitfit", "full")
# Wrong for every target set alike.
STRUCTURAL = {"lora.targets", "lora.layers", "lora.stacks"}
DEFAULT_TARGETS = ("q", "k", "v", "o", "qk", "qv", "qkvo", "mlp", "all")


@dataclasses.dataclass(frozen=True)
class Row:
    """One target set, or one method.

    Attributes:
        name: letters, in canonical order, or the method's name.
        size, parameters, residual: None where not even the smallest fits; residual also where no budget was given. The
            size of a target set is its rank.
        note: why not.
    """

    name: str
    size: int | None = None
    parameters: int | None = None
    residual: int | None = None
    note: str = ""


def load_outline(spec: RunSpec, cache_dir: Path) -> Base:
    """The model's shapes.

    Raises:
        HarnessError: the model's config cannot be read.
    """
    # Torch and transformers come with it: neither --help nor a wrong config should wait for them.
    from src.models.loading import outline  # noqa: PLC0415

    return outline(spec.model, spec.task.kind, cache_dir)


def target_rows(spec: RunSpec, target_sets: Sequence[str], base: Base) -> list[Row]:
    """A row for each target set.

    Raises:
        ConfigError: a letter or a layer that the model lacks.
    """
    from src.models.setup import set_up  # noqa: PLC0415

    rows = []
    for targets in target_sets:
        cell = normalise(dataclasses.replace(spec, lora=dataclasses.replace(spec.lora, targets=targets)))
        letters = expand_targets(targets, {p.letter for p in base.projections})
        try:
            given = set_up(cell, base).allocation
            note = "" if given.uniform else f"ranks {min(given.ranks)} to {max(given.ranks)}"
            rows.append(Row(letters, given.rank, given.parameters, given.residual, note))
        except ConfigError as error:
            if error.key in STRUCTURAL:
                raise
            rows.append(Row(letters, note=str(error)))
    return rows


def method_rows(spec: RunSpec, base: Base) -> list[Row]:
    """A row for each method other than LoRA; none without a budget."""
    from src.models.setup import set_up  # noqa: PLC0415

    rows = []
    for name in METHODS if spec.lora.budget is not None else ():
        try:
            cell = normalise(dataclasses.replace(spec, method=MethodSpec(name)))
            allocation = set_up(cell, base).allocation
            rows.append(Row(name, allocation.size, allocation.parameters, allocation.residual))
        except ConfigError as error:
            rows.append(Row(name, note=str(error)))
    return rows


def show(titles: tuple[str, str], num_parameters: int, rows: Sequence[Row]) -> None:
    """Print a table, and below it why a row has no size.

    Args:
        titles: of the first two columns.
        num_parameters: of the base.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(titles[0])
    for name in (titles[1], "trained parameters", "share of base", "residual"):
        table.add_column(name, justify="right")
    for row in rows:
        share = None if row.parameters is None else f"{row.parameters / num_parameters:.3%}"
        table.add_row(row.name, _count(row.size), _count(row.parameters), share, _count(row.residual))
    Console().print(table)
    for row in rows:
        if row.note:
            print(f"{row.name}: {row.note}")


def cli(arguments: Sequence[str]) -> int:
    """Compose, compute, print, and turn every error into one paragraph and an exit code."""

    def work() -> None:
        overrides, target_sets = split_arguments(arguments)
        config = compose_config(overrides)
        spec = to_spec(config)
        if spec.method.name not in WITH_LORA:
            allowed = "lora or lora_prefix; with a budget the second table has the sizes of the other methods"
            raise ConfigError("method", spec.method.name, allowed)
        base = load_outline(spec, Path(to_settings(config).cache_dir))
        size = f"rank {spec.lora.rank}" if spec.lora.budget is None else f"budget {spec.lora.budget:,}"
        print(f"{spec.model.path}: {base.num_parameters:,} parameters; {size}")
        show(("targets", "rank"), base.num_parameters, target_rows(spec, target_sets, base))
        if methods := method_rows(spec, base):
            show(("method", "size"), base.num_parameters, methods)

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
