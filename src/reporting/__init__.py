"""What a person reads of a study: sentences, tables, figures and the page."""

from src.reporting.answer import answer
from src.reporting.files import write_report

__all__ = ["answer", "write_report"]
