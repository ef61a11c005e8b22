"""A document as one self-contained page: styles and figures inside, nothing fetched, no scripts."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from src.reporting.document import Document

TEMPLATE = "page.html.j2"
TOGETHER = re.compile(r" (?!\()")


def to_html(document: Document) -> str:
    """Every text is escaped; only figures, which this program drew, are put in as they are."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = Markup
    environment.filters["unbroken"] = unbroken
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    return environment.get_template(TEMPLATE).render(document=document)


def unbroken(text: str) -> str:
    """No line breaks but before a bracket, where the columns of a wide table are narrowed."""
    return TOGETHER.sub("\N{NO-BREAK SPACE}", text)
