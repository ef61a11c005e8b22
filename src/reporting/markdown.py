"""A document as Markdown, with links to the figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from src.records.text import one_line
from src.reporting.document import Block, Bullets, Code, Document, Gallery, Grid, Paragraph, Picture


def document_markdown(document: Document) -> str:
    """Headings, paragraphs, lists, tables, and figures from the folder beside the file."""
    lines = [f"# {escape(document.title)}", "", escape(document.summary), ""]
    for section in document.sections:
        lines += [f"## {escape(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """Foreign text inside Markdown: one line, no cell borders, no HTML, no links and no pictures from elsewhere."""
    line = one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return line.replace("](", "]\\(").replace("][", "]\\[").replace("]:", "]\\:")


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> list[str]:
    """A table whose first columns are aligned left and the others right; texts are escaped here."""
    rules = ["---" if place < text_columns else "---:" for place in range(len(columns))]
    cells = [[escape(text) for text in row] for row in (columns, *rows)]
    return [f"| {' | '.join(line)} |" for line in (cells[0], rules, *cells[1:])]


def _block(block: Block) -> list[str]:
    match block:
        case Paragraph(text=text, lead=lead):
            return [f"**{escape(text)}**" if lead else escape(text)]
        case Bullets(items=items):
            return [f"- {escape(item)}" for item in items]
        case Code(text=text):
            return _fenced(text)
        case Grid(columns=columns, rows=rows, text_columns=text_columns, caption=caption):
            return [*table_lines(columns, rows, text_columns), *(["", escape(caption)] if caption else [])]
        case Gallery(pictures=pictures):
            return [line for picture in pictures for line in _picture(picture)][:-1]


def _fenced(text: str) -> list[str]:
    """As it is, between fences longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, *text.split("\n"), fence]


def _picture(picture: Picture) -> list[str]:
    image = f"![{escape(picture.title)}](figures/{picture.name}.png)"
    return [image, "", f"{escape(picture.caption)} [SVG](figures/{picture.name}.svg)", ""]
