"""What a report says, before it becomes HTML or Markdown: sections of blocks. Text is plain; writers escape it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from src.records.text import MISSING

# A page of more is slow to open and read by nobody to its end.
MOST_ROWS = 200


@dataclass(frozen=True)
class Paragraph:
    """One paragraph; `lead` is the answer itself, set larger."""

    text: str
    lead: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines for a terminal."""

    text: str


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        columns: headers.
        rows: as long as `columns`.
        text_columns: how many of the first columns are words; the others are numbers, aligned right.
        caption: what it shows; may be empty.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its files in the report's figures folder, without suffix.
        svg: ready to stand inside a page (`src.plots.inline`).
    """

    name: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Gallery:
    """Figures side by side where there is room."""

    pictures: tuple[Picture, ...]


Block = Paragraph | Bullets | Code | Grid | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the page; `anchor` is its id."""

    title: str
    anchor: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        title: the study's name.
        summary: one line under the title: what was run, and how much of it is there.
        sections: the answer first.
    """

    title: str
    summary: str
    sections: tuple[Section, ...]


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1, caption: str = "") -> Grid:
    """A Grid from any sequences.

    Raises:
        ValueError: a row of another length than the header.
    """
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"a row does not have {len(columns)} cells")
    return Grid(tuple(columns), tuple(tuple(row) for row in rows), text_columns, caption)


def without_empty(full: Grid) -> Grid:
    """Less the columns in which everything is missing: with one seed there are no differences, for instance."""
    kept = [place for place, column in enumerate(zip(*full.rows, strict=True)) if set(column) != {MISSING}]
    rows = [[row[place] for place in kept] for row in full.rows]
    text_columns = sum(place < full.text_columns for place in kept)
    return grid([full.columns[place] for place in kept], rows, text_columns, full.caption)


def shortened(full: Grid, file: str) -> Grid:
    """The first rows of very many, and a sentence on where the others are."""
    if len(full.rows) <= MOST_ROWS:
        return full
    told = f"The first {MOST_ROWS} of {len(full.rows):,d} rows; {file} has all."
    return replace(full, rows=full.rows[:MOST_ROWS], caption=f"{told} {full.caption}".rstrip())


def gallery(pictures: Sequence[Picture]) -> list[Block]:
    """A Gallery, or nothing for no pictures."""
    return [Gallery(tuple(pictures))] if pictures else []
