"""What lines and points are told apart by: target sets and methods. Of very many only the best have their own look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from src.comparison import Cell, Table
from src.comparison.method import LORA, family_of, full_family_of
from src.plots.style import MUTED, Look, looks, spell
from src.spec import LETTERS

T = TypeVar("T")
# More of them, or more points, and a figure tells nothing apart; then so many of the best are told apart.
MOST_FAMILIES, MOST_POINTS, BEST_FAMILIES = 12, 400, 8
OTHER = Look(MUTED, ".", "none")


def families(table: Table) -> dict[str, str]:
    """What lines and points are told apart by, and how figures write it, with ``LoRA`` where there are other methods:
    target sets of plain LoRA, small ones first, then its kin, then other methods."""
    first: dict[str, Cell] = {}
    for cell in table.cells:
        if cell.adapted:
            first.setdefault(cell.family, cell)
    ordered = sorted(first.values(), key=lambda cell: (_method_order(cell), _target_order(cell.spec.lora.targets)))
    write = full_family_of if table.several_methods else family_of
    return {cell.family: write(cell.spec, spell) for cell in ordered}


def drawn_families(table: Table) -> dict[str, str]:
    """`families`, of very many those whose best cell is best on validation."""
    names = families(table)
    if len(names) <= MOST_FAMILIES:
        return names
    best = list(dict.fromkeys(cell.family for cell in (*table.ranked, *table.cells) if cell.adapted))[:BEST_FAMILIES]
    return {family: name for family, name in names.items() if family in best}


def family_looks(table: Table) -> dict[str, Look]:
    """One look for each family, the same in all figures of a table; one for all that are not drawn by themselves."""
    own = looks(list(drawn_families(table)))
    return {family: own.get(family, OTHER) for family in families(table)}


def others_label(table: Table) -> str:
    """``34 other target sets``; empty where every family is drawn by itself."""
    number = len(families(table)) - len(drawn_families(table))
    kind = "methods and target sets" if table.several_methods else "target sets"
    return f"{number} other {kind}" if number > 0 else ""


def others_words(table: Table, *, grey: bool) -> str:
    """For a caption, what becomes of the families that are too many; empty where none are.

    Args:
        grey: whether they are drawn all the same.
    """
    label = others_label(table)
    if not label:
        return ""
    fate = "are grey" if grey else "are left out"
    return f" The {BEST_FAMILIES} with the best validation score are told apart; {label} {fate} (findings.csv has all)."


def thinned(items: Sequence[T], most: int = MOST_POINTS) -> list[T]:
    """At most so many, at even distances, both ends among them; all where there are no more."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _method_order(cell: Cell) -> tuple[bool, bool, str]:
    return not cell.has_lora, cell.method != LORA, cell.method


def _target_order(targets: str) -> tuple[bool, int, list[int], str]:
    known = set(targets) <= set(LETTERS)
    places = [LETTERS.index(letter) for letter in targets] if known else []
    return not known, len(targets), places, targets
