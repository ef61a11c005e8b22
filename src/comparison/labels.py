"""What readers call a cell: its name, and in brackets what tells it from the other cells of its table."""

from __future__ import annotations

from collections.abc import Sequence

from src.comparison.cells import Cell
from src.records.text import show


def cell_label(cell: Cell, varying: Sequence[str], several_methods: bool) -> str:
    """``qkvo r=64 (alpha 16, lr 0.003)``, and whatever else varies between the cells."""
    alpha = [f"alpha {cell.spec.lora.alpha:g}"] if cell.has_lora else []
    rate = [f"lr {cell.spec.optim.lr:g}"] if cell.adapted else []
    return _label(cell, varying, [*alpha, *rate], several_methods)


def configuration_label(cell: Cell, varying: Sequence[str], several_methods: bool) -> str:
    """``qkvo r=64``, and whatever varies between configurations: what is tuned within one is left out."""
    return _label(cell, varying, [], several_methods)


def last_part(key: str) -> str:
    """``lr`` of ``optim.lr``."""
    return key.rpartition(".")[2]


def _label(cell: Cell, varying: Sequence[str], tuned: Sequence[str], several_methods: bool) -> str:
    details = [
        f"{last_part(key)} {show(cell.fields[key], 'number')}" for key in varying if cell.fields.get(key) is not None
    ]
    name = cell.full_name if several_methods else cell.name
    return f"{name} ({', '.join([*tuned, *details])})" if tuned or details else name
