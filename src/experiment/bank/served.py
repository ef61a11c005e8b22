"""What was measured of one base and its adapters: the values, as a table and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from src.models.bank.agreement import Agreement
from src.models.bank.costs import MIXED, Pass, Switching
from src.spec import RunSpec
from src.spec.run import Pooling


@dataclass(frozen=True)
class Resident:
    """An adapter that goes into a bank.

    Attributes:
        name: run id, or name of an imported folder.
        folder: with the adapter's files.
        head: file of the task head, None without.
        spec: of its run; of an imported one that of the first run in the bank.
        pooling: that the head was trained with.
    """

    name: str
    folder: Path
    head: Path | None
    spec: RunSpec
    pooling: Pooling

    @property
    def disk_bytes(self) -> int:
        """Of its files."""
        files = [file for file in self.folder.iterdir() if file.is_file()] + ([self.head] if self.head else [])
        return sum(file.stat().st_size for file in files)


@dataclass(frozen=True)
class Served:
    """What one base with its adapters costs.

    Attributes:
        load_s: loading the base once; what a switch costs where every task has a whole model on disk.
        base_bytes, adapter_bytes: in memory.
        checkpoint_bytes: the base's weight files, None where unknown.
        adapter_disk_bytes: files of all adapters and heads.
        shape: of the passes' main input; rows and tokens, or of pictures rows, channels, height and width.
        dtype: of the base, as torch names it.
        not_mixed: why the adapters of a batch cannot be mixed, None where they can.
        left_out: saved tensors that belong to no letter, by adapter.
    """

    model: str
    residents: tuple[Resident, ...]
    num_parameters: int
    load_s: float
    base_bytes: int
    adapter_bytes: int
    checkpoint_bytes: int | None
    adapter_disk_bytes: int
    shape: tuple[int, ...]
    dtype: str
    not_mixed: str | None
    agreement: Agreement
    switching: Switching
    passes: tuple[Pass, ...]
    left_out: Mapping[str, tuple[str, ...]]

    @property
    def num_mixed(self) -> int:
        """Distinct adapters in the mixed batch, 0 where there is none."""
        there = any(timed.variant == MIXED for timed in self.passes)
        return min(self.shape[0], len(self.residents)) if there else 0


def show(served: Served) -> None:
    """Print what is stored and what it takes to switch, then the passes."""
    count = len(served.residents)
    switching = served.switching
    table = _table("", f"{count} whole models", "one base with adapters", "adapters alone")
    table.add_row("memory", *_shares(served.base_bytes, served.adapter_bytes, count))
    table.add_row("on disk", *_shares(served.checkpoint_bytes, served.adapter_disk_bytes, count))
    table.add_row("to switch", f"{_ms(served.load_s)} to load", f"{_ms(switching.use_s)} in place")
    table.add_row("", "", f"{_ms(switching.unmerge_s + switching.merge_s)} merged")
    Console().print(table)
    table = _table(" x ".join(map(str, served.shape)), "median", "slower %", "quartiles")
    for timed in served.passes:
        low, middle, high = quantiles(timed.slowdowns, n=4, method="inclusive")
        slower = [] if timed is served.passes[0] else [f"{middle:+.1f}", f"{low:+.1f} to {high:+.1f}"]
        table.add_row(_label(timed, served), _ms(timed.median_s), *slower)
    Console().print(table)
    print(_agreed(served))
    for name, tensors in served.left_out.items():
        print(f"{name}: {len(tensors)} saved tensors belong to no letter and were left out, such as {tensors[0]}.")


def _label(timed: Pass, served: Served) -> str:
    """With what a mixed batch mixes: no more adapters than it has rows."""
    return f"{timed.variant}, {served.num_mixed} adapters" if timed.variant == MIXED else timed.variant


def _agreed(served: Served) -> str:
    agreed, precision = served.agreement, served.dtype
    mixing = "" if agreed.mixed is None else f", mixed with alone to {agreed.mixed:.0e}"
    sentence = (
        f"Answers of all {len(served.residents)} agree: merged with unmerged to {agreed.merged:.0e}{mixing} of the "
        f"largest ({agreed.allowed:.0e} allowed in {precision})."
    )
    return sentence if served.not_mixed is None else f"{sentence}\n{served.not_mixed} No mixed batch was timed."


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _shares(whole: int | None, adapters: int, count: int) -> tuple[str, str, str]:
    """N whole models, one with N adapters, the adapters alone."""
    if whole is None:
        return "-", "-", _megabytes(adapters)
    return _megabytes(count * whole), _megabytes(whole + adapters), _megabytes(adapters)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.3f} ms" if seconds < 1e-3 else f"{1000 * seconds:,.1f} ms"


def as_json(served: Served) -> dict[str, Any]:
    """Plain values; sizes in bytes, times in seconds."""
    plain = {f.name: getattr(served, f.name) for f in dataclasses.fields(served)}
    count = len(served.residents)
    whole = None if served.checkpoint_bytes is None else count * served.checkpoint_bytes
    return {
        **plain,
        "residents": [_resident(resident) for resident in served.residents],
        "whole_models_bytes": count * served.base_bytes,
        "whole_models_disk_bytes": whole,
        "num_mixed": served.num_mixed,
        "agreement": dataclasses.asdict(served.agreement),
        "switching": dataclasses.asdict(served.switching),
        "passes": [{**dataclasses.asdict(timed), "median_s": timed.median_s} for timed in served.passes],
    }


def _resident(resident: Resident) -> dict[str, Any]:
    return {"name": resident.name, "folder": str(resident.folder), "disk_bytes": resident.disk_bytes}
